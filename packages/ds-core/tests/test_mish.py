"""Mish against finite differences, autograd, torch.nn, its extremes and a worked example."""

import math

import pytest
import torch
from activation_checks import (
    check_any,
    check_chunks,
    check_digits,
    check_extremes,
    check_half_precision,
    check_one_graph,
    kept_bytes,
    tensors,
)
from ds_core import Mish
from ds_core.activations.mish import mish_with_slope
from ds_core.activations.smooth import slope_backward
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_mish_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Mish(), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_mish_is_the_twin() -> None:
    assert check_twin_grid(Mish, torch.nn.Mish, {}, [3 * torch.randn(4, 5)]) == 1


def test_worked_example() -> None:
    y, slope = mish_with_slope(torch.tensor([[1.0, 0.0], [-2.0, 0.5]]))
    torch.testing.assert_close(y, torch.tensor([[0.8651, 0.0], [-0.2525, 0.3752]]), rtol=0, atol=5e-5)
    dx = slope_backward(torch.tensor([[1.0, 2.0], [-3.0, 0.5]]), slope)
    torch.testing.assert_close(dx, torch.tensor([[1.049, 1.2], [0.3251, 0.4432]]), rtol=0, atol=5e-5)
    assert slope[0, 1] == pytest.approx(0.6)
    # what the page takes on the way at x = 1: e, n and y
    e = math.exp(1)
    assert [e, e * (e + 2)] == pytest.approx([2.7183, 12.8256], abs=5e-5)
    assert pytest.approx(12.8256 / 14.8256, abs=5e-5) == 0.8651


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mish_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    check_extremes(Mish(), torch.nn.Mish(), dtype)


def test_mish_in_float32_keeps_the_digits() -> None:
    # autograd multiplies x by the difference of n / (n + 2)^2 and 1 / (n + 2)
    check_digits(Mish(), torch.nn.Mish(), autograd=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mish_in_half_precision_rounds_once(dtype: torch.dtype) -> None:
    check_half_precision(Mish(), torch.nn.Mish(), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_mish_in_chunks_equals_the_whole(dtype: torch.dtype) -> None:
    check_chunks(Mish(), dtype)


@given(tensors())
@settings(max_examples=25, deadline=None)
def test_mish_of_any_shape(x: torch.Tensor) -> None:
    check_any(Mish(), torch.nn.Mish(), x)


def test_mish_keeps_one_tensor_of_the_size_of_x() -> None:
    assert kept_bytes(Mish(), torch.randn(100, 10)) == 4000


def test_mish_compiles_in_one_graph() -> None:
    check_one_graph(Mish())
