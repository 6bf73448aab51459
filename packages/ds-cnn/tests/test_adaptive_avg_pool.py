import pytest
import torch
from ds_cnn import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    adaptive_avg_pool,
    adaptive_avg_pool_backward,
    plain_adaptive_avg_pool,
    plain_adaptive_avg_pool_backward,
)
from ds_core import ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])
PAIRS = [
    (adaptive_avg_pool, adaptive_avg_pool_backward),
    (plain_adaptive_avg_pool, plain_adaptive_avg_pool_backward),
]
# Global, side by side, overlapping, more windows than positions, one axis kept.
SIZES = [1, 3, (2, 4), (7, 5), (None, 3), (6, None), [4, 1]]


@BOTH
@pytest.mark.parametrize("output_size", SIZES, ids=str)
def test_layer(output_size, implementation):
    check_layer(AdaptiveAvgPool2d(output_size, implementation=implementation), torch.randn(2, 2, 6, 5))


@BOTH
def test_sequence(implementation):
    check_layer(AdaptiveAvgPool1d(3, implementation=implementation), torch.randn(2, 3, 7))
    layer, twin = AdaptiveAvgPool1d(4, implementation=implementation), torch.nn.AdaptiveAvgPool1d(4)
    check_twin(layer, twin, torch.randn(3, 7))


def test_twin_over_all_arguments():
    axis = [1, 2, 3, 5, 7, None]
    sizes = [(p, q) for p in axis for q in axis] + [1, 3, 8]
    for x in (torch.randn(2, 2, 6, 5), torch.randn(2, 6, 5)):
        compared = check_twin_grid(
            AdaptiveAvgPool2d, torch.nn.AdaptiveAvgPool2d, {"output_size": sizes}, [x], modes=["train"]
        )
        assert compared == len(sizes)


def test_twin_over_all_arguments_in_one_dimension():
    for length in (1, 3, 4, 6, 7):
        x = torch.randn(2, 2, length)
        grid = {"output_size": [*range(1, 9), (3,)]}
        compared = check_twin_grid(AdaptiveAvgPool1d, torch.nn.AdaptiveAvgPool1d, grid, [x], modes=["train"])
        assert compared == 9


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3))
def test_both_implementations_agree(axes):
    size, output_size = (tuple(values) for values in zip(*axes, strict=True))
    x, dy = (torch.randn(2, *shape, dtype=torch.float64) for shape in (size, output_size))
    y, plain_y = (forward(x, output_size) for forward, _ in PAIRS)
    torch.testing.assert_close(y, plain_y, rtol=1e-12, atol=1e-12)
    dx, plain_dx = (backward(dy, size) for _, backward in PAIRS)
    torch.testing.assert_close(dx, plain_dx, rtol=1e-12, atol=1e-12)


def test_worked_example():
    x = torch.tensor([1.0, 2.0, 4.0, 6.0, 8.0])
    for forward, backward in PAIRS:
        torch.testing.assert_close(forward(x, (3,)), torch.tensor([1.5, 4.0, 7.0]))
        dx = backward(torch.tensor([1.0, 0.6, -2.0]), (5,))
        torch.testing.assert_close(dx, torch.tensor([0.5, 0.7, 0.2, -0.8, -1.0]))


@pytest.mark.parametrize("output_size", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype, output_size):
    x = (0.9 + 0.01 * torch.rand(1, 1, 64, 64)).to(dtype)
    layer = AdaptiveAvgPool2d(output_size)
    with record():
        y = layer(x)
        dx = layer.backward(torch.ones_like(y))
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    exact = x.double().requires_grad_()
    expected = torch.nn.AdaptiveAvgPool2d(output_size)(exact)
    expected.backward(torch.ones_like(expected))
    torch.testing.assert_close(y.double(), expected.detach(), rtol=torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close(dx.double(), exact.grad, rtol=torch.finfo(dtype).eps, atol=0)


def test_infinity_stays_in_its_window():
    x = torch.zeros(1, 1, 7, 7)
    x[0, 0, 0, 0] = torch.inf
    y = AdaptiveAvgPool2d(3)(x)
    assert y[0, 0, 0, 0] == torch.inf
    assert y.flatten()[1:].tolist() == [0] * 8


def test_nothing_but_the_size_is_kept():
    layer = AdaptiveAvgPool2d(1)
    with record() as trace:
        y = layer(torch.randn(16, 3, 32, 32))
        kept = sum(line.bytes for line in trace.kept())
        layer.backward(y)
    assert kept == 0


@pytest.mark.parametrize("output_size", [0, -1, (2, 0), (1, 2, 3), (None, 0)])
def test_impossible_arguments(output_size):
    with pytest.raises(ValueError, match="AdaptiveAvgPool2d: output_size"):
        AdaptiveAvgPool2d(output_size)


def test_unknown_implementation():
    with pytest.raises(ValueError, match="AdaptiveAvgPool2d: given implementation='fast'"):
        AdaptiveAvgPool2d(1, implementation="fast")


@pytest.mark.parametrize("shape", [(5, 5), (2, 1, 1, 5, 5), (1, 0, 5, 5), (1, 2, 0, 5)])
def test_impossible_input(shape):
    with pytest.raises(ShapeError, match=r"AdaptiveAvgPool2d\(output_size=\(2, 2\)\).*given input of shape"):
        AdaptiveAvgPool2d(2)(torch.zeros(shape))


def test_images_of_integers():
    with pytest.raises(ShapeError, match=r"AdaptiveAvgPool2d\(.*expected a floating dtype"):
        AdaptiveAvgPool2d(2)(torch.zeros(1, 1, 4, 4, dtype=torch.int64))


def test_compiles_whole():
    layers, x = [AdaptiveAvgPool2d(size) for size in (1, 4, 3)], torch.randn(2, 3, 8, 8)

    def step(x):
        with record():
            ys = [layer(x) for layer in layers]
            return ys, [layer.backward(torch.cos(y)) for layer, y in zip(layers[::-1], ys[::-1], strict=True)]

    torch.testing.assert_close(one_graph(step)(x), step(x))
