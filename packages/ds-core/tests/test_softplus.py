"""Softplus against finite differences, autograd, torch.nn, its extremes and a worked example."""

import pytest
import torch
from activation_checks import (
    by_autograd,
    check_any,
    check_chunks,
    check_digits,
    check_extremes,
    check_half_precision,
    check_one_graph,
    handwritten,
    kept_bytes,
    tensors,
)
from ds_core import Softplus
from ds_core.activations.smooth import slope_backward
from ds_core.activations.softplus import softplus_with_slope
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_softplus_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Softplus(), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_softplus_is_the_twin() -> None:
    grid = {"beta": [1.0, 0.5, 3, -1.5], "threshold": [20.0, 1.0, 0, -1.0, 100.0]}
    assert check_twin_grid(Softplus, torch.nn.Softplus, grid, [3 * torch.randn(4, 5)]) == 20


@pytest.mark.parametrize("beta", [1.0, 2.0, -2.0])
def test_softplus_is_x_beyond_the_threshold_and_not_at_it(beta: float) -> None:
    layer, twin = Softplus(beta, 3.0), torch.nn.Softplus(beta, 3.0)
    x = torch.tensor([3.0, 3.000001, 2.999999, 9.0, -9.0]) / beta
    y, dx = by_autograd(twin, x, torch.ones_like(x))
    assert y[1] == x[1]
    assert y[0] != x[0]
    for found, gradient in (handwritten(layer, x, torch.ones_like(x)), by_autograd(layer, x, torch.ones_like(x))):
        torch.testing.assert_close(found, y, rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, dx, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("dtype", "threshold"),
    [(torch.float32, 16.0), (torch.float32, 17.4), (torch.float32, 20.0), (torch.float64, 20.0), (torch.float64, 38.0)],
)
def test_softplus_is_x_to_the_last_digit_beyond_the_threshold(dtype: torch.dtype, threshold: float) -> None:
    """With the choice and, where the threshold lies so far off that it makes no difference, without."""
    x = threshold + torch.tensor([1e-5, 0.5, 3.0, 100.0, 1e4], dtype=dtype)
    y, dx = handwritten(Softplus(1.0, threshold), x, torch.ones_like(x))
    assert torch.equal(y, x)
    assert torch.equal(dx, torch.ones_like(x))


def test_softplus_does_not_overflow_below_a_far_threshold() -> None:
    """The twin is infinite there and its gradient NaN."""
    x = torch.tensor([100.0, 1e4])
    assert torch.nn.functional.softplus(x, threshold=1e6).isinf().all()
    for y, dx in (handwritten(Softplus(threshold=1e6), x, x), by_autograd(Softplus(threshold=1e6), x, x)):
        assert torch.equal(y, x)
        assert torch.equal(dx, x)


def test_worked_example() -> None:
    y, slope = softplus_with_slope(torch.tensor([[1.0, 0.0], [-2.0, 0.5]]))
    torch.testing.assert_close(y, torch.tensor([[1.3133, 0.6931], [0.1269, 0.9741]]), rtol=0, atol=5e-5)
    dx = slope_backward(torch.tensor([[1.0, 2.0], [-3.0, 0.5]]), slope)
    torch.testing.assert_close(dx, torch.tensor([[0.7311, 1.0], [-0.3576, 0.3112]]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softplus_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    check_extremes(Softplus(), torch.nn.Softplus(), dtype)


def test_softplus_in_float32_keeps_the_digits() -> None:
    check_digits(Softplus(), torch.nn.Softplus())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_softplus_in_half_precision_rounds_once(dtype: torch.dtype) -> None:
    check_half_precision(Softplus(), torch.nn.Softplus(), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_softplus_in_chunks_equals_the_whole(dtype: torch.dtype) -> None:
    check_chunks(Softplus(), dtype)


@given(tensors())
@settings(max_examples=25, deadline=None)
def test_softplus_of_any_shape(x: torch.Tensor) -> None:
    check_any(Softplus(), torch.nn.Softplus(), x)


def test_softplus_keeps_one_tensor_of_the_size_of_x() -> None:
    assert kept_bytes(Softplus(), torch.randn(100, 10)) == 4000


def test_softplus_compiles_in_one_graph() -> None:
    check_one_graph(Softplus())
