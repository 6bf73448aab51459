import pytest
import torch
from ds_cnn import (
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    adaptive_max_pool,
    adaptive_max_pool_backward,
    plain_adaptive_max_pool,
    plain_adaptive_max_pool_backward,
)
from ds_core import ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])
PAIRS = [
    (adaptive_max_pool, adaptive_max_pool_backward),
    (plain_adaptive_max_pool, plain_adaptive_max_pool_backward),
]
SIZES = [1, 3, (2, 4), (7, 5), (None, 3), (6, None), [4, 1]]


def tied(*shape):
    """Numbers of which many are equal."""
    return torch.randint(0, 4, shape).double()


@BOTH
@pytest.mark.parametrize("return_indices", [False, True])
@pytest.mark.parametrize("output_size", SIZES, ids=str)
def test_layer(output_size, return_indices, implementation):
    x = torch.randperm(120).view(2, 2, 6, 5) / 7  # no ties, where finite differences see a kink
    check_layer(AdaptiveMaxPool2d(output_size, return_indices, implementation=implementation), x)


@BOTH
def test_sequence(implementation):
    check_layer(AdaptiveMaxPool1d(3, implementation=implementation), torch.randperm(42).view(2, 3, 7) / 7)
    layer, twin = AdaptiveMaxPool1d(4, True, implementation=implementation), torch.nn.AdaptiveMaxPool1d(4, True)
    check_twin(layer, twin, tied(3, 7))


def test_twin_over_all_arguments():
    axis = [1, 2, 4, 7, None]
    grid = {"output_size": [(p, q) for p in axis for q in axis] + [1, 3, 8], "return_indices": [False, True]}
    for x in (tied(2, 2, 6, 5), tied(2, 6, 5)):
        compared = check_twin_grid(AdaptiveMaxPool2d, torch.nn.AdaptiveMaxPool2d, grid, [x], modes=["train"])
        assert compared == 2 * 28


def test_twin_over_all_arguments_in_one_dimension():
    for length in (1, 3, 4, 7):
        grid = {"output_size": [*range(1, 9), (3,)], "return_indices": [False, True]}
        x = tied(2, 2, length)
        compared = check_twin_grid(AdaptiveMaxPool1d, torch.nn.AdaptiveMaxPool1d, grid, [x], modes=["train"])
        assert compared == 18


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3), st.integers(1, 6))
def test_both_implementations_agree(axes, kinds):
    size, output_size = (tuple(values) for values in zip(*axes, strict=True))
    values = torch.tensor([-torch.inf, -1.0, 0.0, 2.0, torch.inf, torch.nan], dtype=torch.float64)
    x = values[torch.randint(kinds, (2, *size))]
    (y, positions), (plain_y, plain_positions) = (forward(x, output_size) for forward, _ in PAIRS)
    torch.testing.assert_close(y, plain_y, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(positions, plain_positions)
    dy = torch.randn_like(y)
    dx, plain_dx = (backward(dy, positions, size) for _, backward in PAIRS)
    torch.testing.assert_close(dx, plain_dx, rtol=1e-12, atol=1e-12)


@BOTH
@pytest.mark.parametrize("output_size", SIZES, ids=str)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_ties_and_nan_as_pytorch(order, output_size, implementation):
    x = tied(2, 3, 6, 5)
    x[0, 0, 1, 1:3] = x[0, 1, 4, 4] = torch.nan
    x[0, 2] = -torch.inf
    x[1, 0, 3] = torch.inf
    x = x.contiguous(memory_format=order)
    y, indices = AdaptiveMaxPool2d(output_size, True, implementation=implementation)(x)
    expected, expected_indices = torch.nn.AdaptiveMaxPool2d(output_size, True)(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(indices, expected_indices)


@pytest.mark.parametrize("output_size", [1, 3, (2, 4)], ids=str)
def test_channels_last_stays_so(output_size):
    x = tied(2, 3, 6, 5).contiguous(memory_format=torch.channels_last)
    layer = AdaptiveMaxPool2d(output_size)
    with record():
        y = layer(x)
        dx = layer.backward(y)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dx.is_contiguous(memory_format=torch.channels_last)


@BOTH
def test_both_engines_send_the_gradient_of_equal_values_to_the_first(implementation):
    layer, x = AdaptiveMaxPool2d(1, implementation=implementation), torch.zeros(1, 1, 2, 2)
    with record():
        dx = layer.backward(torch.ones_like(layer(x)))
    leaf = x.clone().requires_grad_()
    layer(leaf).backward(torch.ones(1, 1, 1, 1))
    assert dx.flatten().tolist() == leaf.grad.flatten().tolist() == [1, 0, 0, 0]


def test_worked_example():
    x = torch.tensor([3.0, 1.0, 5.0, 2.0, 5.0])
    for forward, backward in PAIRS:
        y, positions = forward(x, (3,))
        assert y.tolist() == [3.0, 5.0, 5.0]
        assert positions.tolist() == [0, 2, 4]
        y, positions = forward(x, (2,))
        assert y.tolist() == [5.0, 5.0]
        assert positions.tolist() == [2, 2]
        assert backward(torch.tensor([0.5, -2.0]), positions, (5,)).tolist() == [0.0, 0.0, -1.5, 0.0, 0.0]


@pytest.mark.parametrize("output_size", [1, 3, 20])
def test_windows_of_every_length(output_size):
    x = torch.randperm(2 * 19 * 20).view(1, 2, 19, 20).double()
    layer, twin = AdaptiveMaxPool2d(output_size, True), torch.nn.AdaptiveMaxPool2d(output_size, True)
    check_twin(layer, twin, x, modes=["eval"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.uint8])
@pytest.mark.parametrize("output_size", [1, 2, 4])
def test_dtype_is_kept(output_size, dtype):
    x = torch.randint(0, 100, (2, 3, 6, 5)).to(dtype)
    y = AdaptiveMaxPool2d(output_size)(x)
    assert y.dtype == dtype
    assert torch.equal(y.float(), torch.nn.AdaptiveMaxPool2d(output_size)(x.float()))


@pytest.mark.parametrize("output_size", [0, -1, (2, 0), (1, 2, 3)])
def test_impossible_arguments(output_size):
    with pytest.raises(ValueError, match="AdaptiveMaxPool2d: output_size"):
        AdaptiveMaxPool2d(output_size)


@pytest.mark.parametrize("shape", [(5, 5), (2, 1, 1, 5, 5), (1, 0, 5, 5), (1, 2, 0, 5)])
def test_impossible_input(shape):
    with pytest.raises(ShapeError, match=r"AdaptiveMaxPool2d\(output_size=\(2, 2\)\).*given input of shape"):
        AdaptiveMaxPool2d(2)(torch.zeros(shape))


def test_compiles_whole():
    layer, x, dy = AdaptiveMaxPool2d((1, 3), True), torch.randn(2, 3, 8, 8), torch.randn(2, 3, 1, 3)

    def step(x, dy):
        with record():
            return *layer(x), layer.backward(dy)

    for found, expected in zip(one_graph(step)(x, dy), step(x, dy), strict=True):
        torch.testing.assert_close(found, expected)
