"""Softmax against finite differences, autograd, torch.nn, its extremes and a worked example."""

import math
import warnings

import pytest
import torch
from ds_core import Softmax, record
from ds_core.activations.softmax import softmax, softmax_backward
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2])
def test_softmax_is_right(dim: int) -> None:
    check_layer(Softmax(dim), 3 * torch.randn(3, 4, 5))


def test_softmax_is_the_twin() -> None:
    grid = {"dim": [0, 1, 2, 3, -1]}
    assert check_twin_grid(Softmax, torch.nn.Softmax, grid, [3 * torch.randn(2, 3, 4, 5)]) == 5


@pytest.mark.parametrize("shape", [(), (4,), (3, 4), (2, 3, 4), (2, 3, 4, 5)])
def test_softmax_without_dim_guesses_as_the_twin_does(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_twin(Softmax(), torch.nn.Softmax(), x)
    with pytest.warns(UserWarning, match="give dim="):
        Softmax()(x)


@pytest.mark.parametrize(("shape", "dim"), [((), 0), ((), -1), ((0, 3), 0), ((0, 3), 1), ((3, 0), 1)])
def test_softmax_of_scalars_and_of_nothing(shape: tuple[int, ...], dim: int) -> None:
    check_twin(Softmax(dim), torch.nn.Softmax(dim), torch.randn(shape))


def test_softmax_refuses_a_dim_that_is_not_there() -> None:
    message = r"^Softmax\(dim=2\): given input of shape \(3, 4\), which has no dimension 2$"
    with pytest.raises(IndexError, match=message):
        Softmax(2)(torch.randn(3, 4))


def test_worked_example() -> None:
    x = torch.tensor([[0.0, math.log(3)], [1.0, 1.0]])
    y = softmax(x, 1)
    torch.testing.assert_close(y, torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    dx = softmax_backward(torch.tensor([[1.0, 2.0], [4.0, -2.0]]), y, 1)
    torch.testing.assert_close(dx, torch.tensor([[-0.1875, 0.1875], [1.5, -1.5]]))
    assert 1 * 0.25 + 2 * 0.75 == 1.75


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    x = torch.tensor(
        [[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4], [0.0, -inf, 0.0], [-inf, -inf, 5.0], [0.0, 0.0, 0.0]],
        dtype=dtype,
    )
    dy = torch.randn(x.shape, dtype=dtype)
    twin, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = torch.softmax(twin, 1)
    expected.backward(dy)
    softmax(ours, 1).backward(dy)
    layer = Softmax(1)
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    torch.testing.assert_close(y, expected.detach())
    torch.testing.assert_close(dx, twin.grad)
    torch.testing.assert_close(ours.grad, twin.grad)


def test_softmax_of_a_row_of_minus_infinity_is_nan_as_in_the_twin() -> None:
    x = torch.tensor([[float("-inf")] * 3, [0.0, 1.0, 2.0]])
    torch.testing.assert_close(softmax(x, 1), torch.softmax(x, 1), equal_nan=True)
    assert softmax(x, 1).isnan().sum() == 3


def test_softmax_in_bfloat16_sums_in_float32() -> None:
    x = torch.randn(4, 3000).bfloat16()
    layer = Softmax(1)
    twin = x.clone().requires_grad_()
    dy = torch.randn(4, 3000).bfloat16()
    expected = torch.softmax(twin, 1)
    expected.backward(dy)
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    assert (y.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(y, expected.detach(), rtol=1e-2, atol=0)
    torch.testing.assert_close(dx, twin.grad, rtol=2e-2, atol=1e-6)


def test_softmax_compiles_in_one_graph() -> None:
    layer = Softmax(-1)

    def step(x: torch.Tensor) -> torch.Tensor:
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4), torch.randn(5, 6)):
        torch.testing.assert_close(compiled(x), step(x))
