"""SoftMarginLoss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import ShapeError, SoftMarginLoss
from ds_core.losses.soft_margin import soft_margin, soft_margin_backward
from ds_core.testing import check_loss, check_twin_grid
from loss_engines import assert_compiles, assert_is_the_twin, by_autograd, handwritten

REDUCTIONS = ["mean", "sum", "none"]


def batch(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return 2 * torch.randn(shape), 2.0 * torch.randint(0, 2, shape) - 1


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_soft_margin_is_right(shape: tuple[int, ...], reduction: str) -> None:
    x, target = batch(*shape)
    twin = torch.nn.SoftMarginLoss(reduction=reduction)
    for labels in (target, target.long(), torch.randn(shape)):
        check_loss(SoftMarginLoss(reduction), x, labels, twin=twin, batch_dim=0 if shape else None)


def test_soft_margin_is_the_twin() -> None:
    grid = {"reduction": REDUCTIONS}
    assert check_twin_grid(SoftMarginLoss, torch.nn.SoftMarginLoss, grid, batch(3, 4), constants=["target"]) == 3


def test_worked_example() -> None:
    x = torch.tensor([[0.0, 2.0], [-1.0, 1.0]])
    target = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    near = {"rtol": 0, "atol": 5e-5}
    losses = soft_margin(x, target)
    torch.testing.assert_close(losses, torch.tensor([[0.6931, 2.1269], [0.3133, 0.3133]]), **near)
    torch.testing.assert_close(losses.mean(), torch.tensor(0.8616), **near)
    dlosses = torch.tensor(0.25)
    assert pytest.approx(0.2202, abs=5e-5) == 0.25 / (1 + 0.1353)
    with torch.no_grad():
        dx = soft_margin_backward(dlosses, x, target)
    torch.testing.assert_close(dx, torch.tensor([[-0.125, 0.2202], [0.0672, -0.0672]]), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_soft_margin_is_finite_and_exact_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, inf, -inf, 3e38], dtype=dtype)
    half = torch.log(torch.tensor(2.0, dtype=dtype))
    losses = torch.tensor([half, half, 0.0, 1e4, 0.0, inf, 0.0], dtype=dtype)
    slopes = torch.tensor([-0.5, -0.5, 0.0, -1.0, 0.0, -1.0, 0.0], dtype=dtype)
    loss = SoftMarginLoss("none")
    for sign in (1.0, -1.0):
        target = torch.full_like(x, sign)
        for value, (dx,) in (handwritten(loss, sign * x, target), by_autograd(loss, (sign * x, target))):
            torch.testing.assert_close(value, losses)
            torch.testing.assert_close(dx, sign * slopes)


@pytest.mark.parametrize("shapes", [((3, 4), (4,)), ((3, 4), (3, 1)), ((2, 3), ()), ((0, 3), (0, 3))])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_target_is_broadcast_as_in_the_twin(shapes: tuple[tuple[int, ...], ...], reduction: str) -> None:
    x, target = torch.randn(shapes[0]), batch(*shapes[1])[1]
    assert_is_the_twin(SoftMarginLoss(reduction), torch.nn.SoftMarginLoss(reduction=reduction), x, target)


@pytest.mark.parametrize("shapes", [((4,), (3, 4)), ((1, 4), (3, 4)), ((2,), (3,))])
def test_the_input_is_not_broadcast(shapes: tuple[tuple[int, ...], ...]) -> None:
    x, target = torch.randn(shapes[0]), torch.ones(shapes[1])
    with pytest.raises(RuntimeError):
        torch.nn.SoftMarginLoss()(x, target)
    with pytest.raises(ShapeError, match=r"SoftMarginLoss.*given input \(.*\) and target \(3"):
        SoftMarginLoss()(x, target)


def test_soft_margin_in_bfloat16_rounds_once() -> None:
    x, target = batch(1000)
    x = x.bfloat16()
    with torch.no_grad():
        exact = soft_margin(x.double(), target.double())
        slope = soft_margin_backward(torch.tensor(1.0), x.double(), target.double())
    value, (dx,) = handwritten(SoftMarginLoss("none"), x, target)
    assert (value.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(value.double(), exact, rtol=2**-8, atol=0)
    torch.testing.assert_close(dx.double(), slope, rtol=2**-8, atol=0)
    assert handwritten(SoftMarginLoss("sum"), x, target)[0] == exact.sum().bfloat16()


def test_soft_margin_compiles_in_one_graph() -> None:
    assert_compiles(SoftMarginLoss(), [batch(3, 4), batch(5, 6)])
