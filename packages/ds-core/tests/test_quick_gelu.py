"""QuickGELU against finite differences, autograd, its formula, its extremes and a worked example."""

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
from ds_core import QuickGELU
from ds_core.activations.quick_gelu import quick_gelu_with_slope
from ds_core.activations.smooth import slope_backward
from ds_core.testing import check_layer, check_twin
from hypothesis import given, settings


def twin(x: torch.Tensor) -> torch.Tensor:
    """`QuickGELUActivation` of transformers."""
    return x * torch.sigmoid(1.702 * x)


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_quick_gelu_is_right(shape: tuple[int, ...]) -> None:
    check_layer(QuickGELU(), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_quick_gelu_is_the_twin() -> None:
    check_twin(QuickGELU(), twin, 3 * torch.randn(4, 5))


def test_worked_example() -> None:
    y, slope = quick_gelu_with_slope(torch.tensor([[1.0, 0.0], [-2.0, 0.5]]))
    torch.testing.assert_close(y, torch.tensor([[0.8458, 0.0], [-0.0643, 0.3504]]), rtol=0, atol=5e-5)
    dx = slope_backward(torch.tensor([[1.0, 2.0], [-3.0, 0.5]]), slope)
    torch.testing.assert_close(dx, torch.tensor([[1.0678, 1.0], [0.2214, 0.4396]]), rtol=0, atol=5e-5)
    assert float(slope[0, 0]) == pytest.approx(0.8458 + 1.702 * 0.8458 * (1 - 0.8458), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quick_gelu_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    check_extremes(QuickGELU(), twin, dtype)


def test_quick_gelu_in_float32_keeps_the_digits() -> None:
    check_digits(QuickGELU(), twin)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_quick_gelu_in_half_precision_rounds_once(dtype: torch.dtype) -> None:
    check_half_precision(QuickGELU(), twin, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_quick_gelu_in_chunks_equals_the_whole(dtype: torch.dtype) -> None:
    check_chunks(QuickGELU(), dtype)


@given(tensors())
@settings(max_examples=25, deadline=None)
def test_quick_gelu_of_any_shape(x: torch.Tensor) -> None:
    check_any(QuickGELU(), twin, x)


def test_quick_gelu_keeps_one_tensor_of_the_size_of_x() -> None:
    assert kept_bytes(QuickGELU(), torch.randn(100, 10)) == 4000


def test_quick_gelu_compiles_in_one_graph() -> None:
    check_one_graph(QuickGELU())
