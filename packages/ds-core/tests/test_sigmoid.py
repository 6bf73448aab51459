"""Sigmoid against finite differences, autograd, torch.nn, its extremes and a worked example."""

import pytest
import torch
from activation_checks import (
    check_any,
    check_chunks,
    check_digits,
    check_extremes,
    check_half_precision,
    check_one_graph,
    tensors,
)
from ds_core import Sigmoid, record
from ds_core.activations.sigmoid import sigmoid, sigmoid_backward
from ds_core.testing import check_layer, check_twin_grid
from hypothesis import given, settings


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_sigmoid_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Sigmoid(), 2 * torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_sigmoid_is_the_twin() -> None:
    assert check_twin_grid(Sigmoid, torch.nn.Sigmoid, {}, [3 * torch.randn(4, 5)]) == 1


def test_worked_example() -> None:
    y = sigmoid(torch.tensor([[1.0, 0.0], [-2.0, 0.5]]))
    torch.testing.assert_close(y, torch.tensor([[0.7311, 0.5], [0.1192, 0.6225]]), rtol=0, atol=5e-5)
    dx = sigmoid_backward(torch.tensor([[1.0, 2.0], [-3.0, 0.5]]), y)
    torch.testing.assert_close(dx, torch.tensor([[0.1966, 0.5], [-0.315, 0.1175]]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigmoid_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    check_extremes(Sigmoid(), torch.nn.Sigmoid(), dtype)


def test_sigmoid_in_float32_keeps_the_digits() -> None:
    check_digits(Sigmoid(), torch.nn.Sigmoid())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sigmoid_in_half_precision_rounds_once(dtype: torch.dtype) -> None:
    check_half_precision(Sigmoid(), torch.nn.Sigmoid(), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sigmoid_in_chunks_equals_the_whole(dtype: torch.dtype) -> None:
    check_chunks(Sigmoid(), dtype)


@given(tensors())
@settings(max_examples=25, deadline=None)
def test_sigmoid_of_any_shape(x: torch.Tensor) -> None:
    check_any(Sigmoid(), torch.nn.Sigmoid(), x)


def test_sigmoid_keeps_its_output_alone() -> None:
    layer = Sigmoid()
    with record() as trace:
        y = layer(torch.randn(100, 10))
        assert [saved is y for saved in trace.entries[0].saved] == [True]
        layer.backward(None)


def test_sigmoid_compiles_in_one_graph() -> None:
    check_one_graph(Sigmoid())
