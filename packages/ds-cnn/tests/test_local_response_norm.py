"""LocalResponseNorm against its twin, both implementations."""

import pytest
import torch
from ds_cnn import (
    LocalResponseNorm,
    local_response_norm,
    local_response_norm_backward,
    plain_local_response_norm,
    plain_local_response_norm_backward,
)
from ds_core import ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])


@BOTH
@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_layer(implementation, size):
    layer = LocalResponseNorm(size, 0.5, 0.75, 1.0, implementation=implementation)
    check_layer(layer, torch.randn(2, 3, 2, 1), samples=4)


@pytest.mark.parametrize("shape", [(2, 5, 4), (2, 5, 3, 2), (1, 3, 2, 2, 2)])
def test_twin_over_all_arguments(shape):
    grid = {"size": [1, 2, 3, 4, 5], "alpha": [1e-4, 1.0], "beta": [0.75, 0.0, 2.0], "k": [1.0, 2.5]}
    assert check_twin_grid(LocalResponseNorm, torch.nn.LocalResponseNorm, grid, [torch.randn(shape)]) == 60


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)),
    size=st.integers(1, 8),
    last=st.booleans(),
    implementation=st.sampled_from(["vectorized", "loops"]),
)
def test_every_shape_is_the_twins(shape, size, last, implementation):
    x = torch.randn(shape)
    x = x.to(memory_format=torch.channels_last) if last else x
    ours, twin = LocalResponseNorm(size, 0.9, implementation=implementation), torch.nn.LocalResponseNorm(size, 0.9)
    check_twin(ours, twin, x, modes=["train"])


def test_worked_example():
    x = torch.tensor([[[1.0], [2.0], [-1.0]]])
    dy = torch.tensor([[[1.0], [0.0], [2.0]]])
    geometry = (2, 2.0, 1.0, 1.0)  # alpha / K = 1, window c covers c - 1 and c
    for forward, backward in [
        (local_response_norm, local_response_norm_backward),
        (plain_local_response_norm, plain_local_response_norm_backward),
    ]:
        y, d = forward(x, *geometry)
        assert d.flatten().tolist() == [2.0, 6.0, 6.0]
        assert y.flatten().tolist() == pytest.approx([1 / 2, 1 / 3, -1 / 6])
        dx = backward(dy, x, d, *geometry[:3])
        assert dx.flatten().tolist() == pytest.approx([0.0, 2 / 9, 2 / 9])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@BOTH
def test_half_precision_is_rounded_once(dtype, implementation):
    x, dy = torch.randn(2, 4, 2, 2).to(dtype), torch.randn(2, 4, 2, 2).to(dtype)
    leaf = x.double().requires_grad_()
    expected = torch.nn.LocalResponseNorm(3, 1.0)(leaf)
    expected.backward(dy.double())
    layer = LocalResponseNorm(3, 1.0, implementation=implementation)
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    near = {"rtol": torch.finfo(dtype).eps, "atol": 1e-5}
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    torch.testing.assert_close(y.double(), expected.detach(), **near)
    torch.testing.assert_close(dx.double(), leaf.grad, **near)


def test_an_empty_batch_and_the_memory_kept():
    layer, x = LocalResponseNorm(3), torch.randn(2, 4, 3, 3)
    with record() as trace:
        assert layer.backward(layer(torch.zeros(0, 4, 3, 3))).shape == (0, 4, 3, 3)
        layer(x)
        (line,) = trace.kept()
        layer.backward(None)
    assert line.bytes == 2 * x.numel() * 4


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_impossible_input(shape):
    with pytest.raises(ShapeError, match=r"LocalResponseNorm\(3, .*given input of shape"):
        LocalResponseNorm(3)(torch.zeros(shape))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"size=0, expected 1 or more"):
        LocalResponseNorm(0)
    with pytest.raises(ValueError, match=r"implementation='fast'"):
        LocalResponseNorm(3, implementation="fast")
    with pytest.raises(TypeError, match=r"given input of torch\.uint8"):
        LocalResponseNorm(3)(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))


def test_state_and_repr_are_the_twins():
    assert list(LocalResponseNorm(3).state_dict()) == []
    assert repr(LocalResponseNorm(3, 0.1, 0.5, 2.0)) == repr(torch.nn.LocalResponseNorm(3, 0.1, 0.5, 2.0))


def test_compiles_whole():
    layer, x = LocalResponseNorm(3), torch.randn(2, 4, 3, 3)

    def step(x):
        with record():
            y = layer(x)
            return y, layer.backward(x)

    torch.testing.assert_close(one_graph(step)(x), step(x))
