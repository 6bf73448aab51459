"""Reductions and their gradients, large inputs piece by piece, and what is said to a wrong name."""

import pytest
import torch
from ds_core.losses.reduction import (
    check_reduction,
    reduce,
    reduce_backward,
    reduce_elementwise,
)
from ds_core.speed.elementwise import CHUNK


def test_worked_example() -> None:
    losses = torch.tensor([[0.5, 1.0], [2.0, 0.0]])
    assert reduce(losses, "mean") == 0.875
    assert reduce(losses, "sum") == 3.5
    assert reduce(losses, "none") is losses
    assert reduce(losses, "mean", torch.tensor(1.25)) == 2.8
    dloss = torch.tensor(2.0)
    assert reduce_backward(dloss, "mean", 4, losses) == 0.5
    assert reduce_backward(dloss, "mean", torch.tensor(1.25), losses) == 1.6
    assert reduce_backward(dloss, "sum", 4, losses) == 2.0
    assert reduce_backward(losses, "none", 4, losses) is losses


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("count", [None, 3])
def test_the_gradient_is_that_of_autograd(reduction: str, count: int | None) -> None:
    losses = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    loss = reduce(losses, reduction, count)
    grad = torch.randn_like(loss)
    (expected,) = torch.autograd.grad(loss, losses, grad)
    found = reduce_backward(grad, reduction, 20 if count is None else count, losses)
    torch.testing.assert_close(found.expand(4, 5), expected)
    ones = reduce_backward(None, reduction, 20, losses)
    assert (ones.dtype, ones.shape) == (torch.float64, ())
    assert ones == (1 / 20 if reduction == "mean" else 1)


def test_a_gradient_in_half_precision_is_divided_in_float32() -> None:
    found = reduce_backward(torch.tensor(1.0).bfloat16(), "mean", 3, torch.zeros(()))
    assert found == torch.tensor(1.0) / 3


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_nothing_reduced_is_what_torch_says(reduction: str) -> None:
    nothing = torch.zeros(0, 3)
    expected = getattr(torch, reduction)(nothing)
    for found in (reduce(nothing, reduction), reduce_elementwise(torch.abs, [nothing], reduction)):
        torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("size", [CHUNK, 3 * CHUNK + 77])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [None, 1000])
def test_piece_by_piece_is_that_of_the_numbers(
    reduction: str, size: int, dtype: torch.dtype, count: int | None
) -> None:
    x, y = torch.randn(size).to(dtype), torch.randn(size).to(dtype)
    exact = reduce(x.double() * y.double(), reduction, count)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            found = reduce_elementwise(torch.mul, [x, y], reduction, count)
        rounding = 2**-8 if dtype is torch.bfloat16 and reduction == "none" else 1e-5
        torch.testing.assert_close(found.double(), exact, rtol=rounding, atol=0 if reduction == "none" else 1e-3)
        assert found.dtype == (dtype if reduction == "none" else torch.float32)


def test_no_tensor_of_all_losses_is_made() -> None:
    calls = []

    def function(x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
        calls.append((x.numel(), out))
        return torch.mul(x, x, out=out)

    with torch.no_grad():
        x = torch.randn(2 * CHUNK + 1)
        torch.testing.assert_close(reduce_elementwise(function, [x], "sum"), x.square().sum())
        assert [size for size, _ in calls] == [CHUNK, CHUNK, 1]
        assert len({out.data_ptr() for _, out in calls}) == 1
        reduce_elementwise(function, [x[:3]], "sum")
    assert calls[-1] == (3, None)


def test_a_wrong_name_is_told_the_nearest_one() -> None:
    assert check_reduction("MSELoss", "sum") == "sum"
    with pytest.raises(
        ValueError, match=r'^MSELoss: given reduction=\'maen\', expected "mean", "sum" or "none"; did you'
    ):
        check_reduction("MSELoss", "maen")
    with pytest.raises(ValueError, match=r'expected "mean" or "sum"$'):
        check_reduction("MSELoss", "average", ("mean", "sum"))
    with pytest.raises(ValueError, match="given reduction=None, expected"):
        check_reduction("MSELoss", None)  # type: ignore[arg-type]
