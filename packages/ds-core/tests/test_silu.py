"""SiLU against finite differences, autograd, torch.nn, its extremes and a worked example."""

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
from ds_core import SiLU
from ds_core.activations.silu import silu_with_slope
from ds_core.activations.smooth import slope_backward
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_silu_is_right(shape: tuple[int, ...]) -> None:
    check_layer(SiLU(), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_silu_is_the_twin() -> None:
    assert check_twin_grid(SiLU, torch.nn.SiLU, {}, [3 * torch.randn(4, 5)]) == 1


def test_worked_example() -> None:
    y, slope = silu_with_slope(torch.tensor([[1.0, 0.0], [-2.0, 0.5]]))
    torch.testing.assert_close(y, torch.tensor([[0.7311, 0.0], [-0.2384, 0.3112]]), rtol=0, atol=5e-5)
    dx = slope_backward(torch.tensor([[1.0, 2.0], [-3.0, 0.5]]), slope)
    torch.testing.assert_close(dx, torch.tensor([[0.9277, 1.0], [0.2724, 0.37]]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_silu_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    check_extremes(SiLU(), torch.nn.SiLU(), dtype)


def test_silu_in_float32_keeps_the_digits() -> None:
    check_digits(SiLU(), torch.nn.SiLU())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_silu_in_half_precision_rounds_once(dtype: torch.dtype) -> None:
    check_half_precision(SiLU(), torch.nn.SiLU(), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_silu_in_chunks_equals_the_whole(dtype: torch.dtype) -> None:
    check_chunks(SiLU(), dtype)


@given(tensors())
@settings(max_examples=25, deadline=None)
def test_silu_of_any_shape(x: torch.Tensor) -> None:
    check_any(SiLU(), torch.nn.SiLU(), x)


def test_silu_keeps_one_tensor_of_the_size_of_x() -> None:
    assert kept_bytes(SiLU(), torch.randn(100, 10)) == 4000


def test_silu_compiles_in_one_graph() -> None:
    check_one_graph(SiLU())
