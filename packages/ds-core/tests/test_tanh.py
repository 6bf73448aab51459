"""Tanh against finite differences, autograd, torch.nn, its extremes and a worked example."""

import math

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
    tensors,
)
from ds_core import Tanh, record
from ds_core.activations.tanh import tanh, tanh_backward
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_tanh_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Tanh(), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_tanh_is_the_twin() -> None:
    assert check_twin_grid(Tanh, torch.nn.Tanh, {}, [3 * torch.randn(4, 5)]) == 1


def test_worked_example() -> None:
    y = tanh(torch.tensor([[1.0, 0.0], [-2.0, 0.5]]))
    torch.testing.assert_close(y, torch.tensor([[0.7616, 0.0], [-0.964, 0.4621]]), rtol=0, atol=5e-5)
    dx = tanh_backward(torch.tensor([[1.0, 2.0], [-3.0, 0.5]]), y)
    torch.testing.assert_close(dx, torch.tensor([[0.42, 2.0], [-0.212, 0.3932]]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    check_extremes(Tanh(), torch.nn.Tanh(), dtype)


def test_tanh_in_float32_keeps_the_digits() -> None:
    # autograd takes the difference of t / (t + 2)^2 and 1 / (t + 2)
    check_digits(Tanh(), torch.nn.Tanh(), autograd=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tanh_in_half_precision_rounds_once(dtype: torch.dtype) -> None:
    check_half_precision(Tanh(), torch.nn.Tanh(), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tanh_in_chunks_equals_the_whole(dtype: torch.dtype) -> None:
    check_chunks(Tanh(), dtype)


@given(st.floats(-1e4, 1e4, width=32))
@settings(max_examples=30, deadline=None)
def test_tanh_of_any_number_in_both_engines(number: float) -> None:
    x, one = torch.tensor(number), torch.ones(())
    slope = 1 / math.cosh(number) ** 2 if abs(number) < 300 else 0.0
    for y, dx in (handwritten(Tanh(), x, one), by_autograd(Tanh(), x, one)):
        assert math.isclose(y.item(), math.tanh(number), rel_tol=3e-7, abs_tol=1e-44)
        # Near +-1 the slope is a small difference of numbers near 1, in PyTorch's tanh too.
        assert dx.item() == pytest.approx(slope, rel=1e-6, abs=5e-7)


def test_tanh_of_small_numbers_and_of_none() -> None:
    x = torch.tensor([1e-3, -1e-5, 1e-30, 1e-42, 0.0, float("nan")])
    y, dx = handwritten(Tanh(), x, torch.ones_like(x))
    torch.testing.assert_close(y, torch.tanh(x), rtol=3e-7, atol=0, equal_nan=True)
    assert dx[2:5].tolist() == [1, 1, 1]


@given(tensors())
@settings(max_examples=25, deadline=None)
def test_tanh_of_any_shape(x: torch.Tensor) -> None:
    check_any(Tanh(), torch.nn.Tanh(), x)


def test_tanh_keeps_its_output_alone() -> None:
    layer = Tanh()
    with record() as trace:
        y = layer(torch.randn(100, 10))
        assert [saved is y for saved in trace.entries[0].saved] == [True]
        layer.backward(None)


def test_tanh_compiles_in_one_graph() -> None:
    check_one_graph(Tanh())
