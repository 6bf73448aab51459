"""BCELoss against finite differences, autograd, torch.nn and a worked example."""

import math

import pytest
import torch
from ds_core import BCELoss, ShapeError
from ds_core.losses.bce import bce, bce_backward
from ds_core.testing import check_loss, check_twin_grid
from loss_engines import assert_compiles, assert_is_the_twin, handwritten

REDUCTIONS = ["mean", "sum", "none"]


def batch(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return 0.05 + 0.9 * torch.rand(shape), 0.05 + 0.9 * torch.rand(shape)


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("target_gradient", [False, True])
def test_bce_is_right(shape: tuple[int, ...], reduction: str, weighted: bool, target_gradient: bool) -> None:
    weight = torch.rand(shape[-1:]) + 0.5 if weighted else None
    check_loss(
        BCELoss(weight, reduction),
        *batch(*shape),
        twin=torch.nn.BCELoss(weight, reduction=reduction),
        target_gradient=target_gradient,
        batch_dim=0 if len(shape) > 1 else None,
    )


def test_bce_is_the_twin() -> None:
    weights = [None, torch.rand(()), torch.rand(4), torch.rand(3, 1), torch.rand(3, 4)]
    grid = {"weight": weights, "reduction": REDUCTIONS}
    assert check_twin_grid(BCELoss, torch.nn.BCELoss, grid, batch(3, 4), constants=["target"]) == 15


def test_worked_example() -> None:
    x = torch.tensor([[0.5, 0.8], [0.25, 0.1]])
    target = torch.tensor([[1.0, 1.0], [0.0, 0.5]])
    weight = torch.tensor([1.0, 2.0]).expand(2, 2)
    near = {"rtol": 0, "atol": 5e-5}
    with torch.no_grad():
        losses = bce(x, target, weight)
        torch.testing.assert_close(losses, torch.tensor([[0.6931, 0.4463], [0.2877, 2.4079]]), **near)
        assert pytest.approx(2 * 0.2231, abs=2e-4) == 0.4463
        assert -math.log(0.8) == pytest.approx(0.2231, abs=5e-5)
        torch.testing.assert_close(losses.mean(), torch.tensor(0.9588), **near)
        dlosses = torch.tensor(0.25)
        dx, dtarget = bce_backward(dlosses, x, target, weight)
    assert pytest.approx(-0.625) == 0.25 * 2 * (0.8 - 1) / (0.8 * 0.2)
    torch.testing.assert_close(dx, torch.tensor([[-0.5, -0.625], [0.3333, -2.2222]]), **near)
    torch.testing.assert_close(dtarget, torch.tensor([[0.0, -0.6931], [0.2747, 1.0986]]), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_bce_at_the_ends_in_both_engines(dtype: torch.dtype, weighted: bool) -> None:
    near_ends = [0.0, 1.0, 1e-44, 1e-30, 1e-13, 1e-12, 1e-11, 1 - 6e-8]
    x = torch.tensor([near_ends], dtype=dtype).expand(4, -1).clone()
    target = torch.tensor([[0.0], [1.0], [0.3], [0.5]], dtype=dtype).expand(4, 8).clone()
    weight = torch.tensor([[1.0], [2.0], [0.0], [3.0]], dtype=dtype) if weighted else None
    for reduction in REDUCTIONS:
        assert_is_the_twin(BCELoss(weight, reduction), torch.nn.BCELoss(weight, reduction=reduction), x, target)


def test_the_target_has_the_slope_of_the_bounded_logarithms() -> None:
    x, target = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([0.0, 0.5, 1.0])
    _, (_, dtarget) = handwritten(BCELoss(reduction="sum"), x, target, target_gradient=True)
    assert dtarget.tolist() == [100, -100, 0]
    leaf = target.clone().requires_grad_()
    BCELoss(reduction="sum")(x, leaf).backward()
    assert torch.equal(leaf.grad, dtarget)


def test_bce_in_bfloat16_rounds_once() -> None:
    x, target = (tensor.bfloat16() for tensor in batch(1000))
    with torch.no_grad():
        exact = bce(x.double(), target.double())
        slope, _ = bce_backward(torch.tensor(1.0), x.double(), target.double())
    value, (dx,) = handwritten(BCELoss(reduction="none"), x, target)
    assert (value.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(value.double(), exact, rtol=2**-8, atol=0)
    torch.testing.assert_close(dx.double(), slope, rtol=2**-8, atol=0)
    assert handwritten(BCELoss(reduction="sum"), x, target)[0] == exact.sum().bfloat16()


def test_the_target_may_be_of_another_dtype() -> None:
    x, target = batch(5)
    for other in (torch.float64, torch.bfloat16):
        value, (dx,) = handwritten(BCELoss(), x, target.to(other))
        assert value.dtype == torch.promote_types(torch.float32, other)
        assert dx.dtype == torch.float32
    whole = torch.tensor([0, 1, 1, 0, 1])
    assert BCELoss()(x, whole) == BCELoss()(x, whole.float())


def test_bce_says_what_is_wrong() -> None:
    loss, half = BCELoss(), torch.full((2,), 0.5)
    for wrong in ([-0.1, 0.5], [0.5, 1.1], [float("nan"), 0.5]):
        with pytest.raises(RuntimeError, match=r"BCELoss\(.*given inputs from .* to .*, expected 0 ... 1"):
            loss(torch.tensor(wrong), half)
        with pytest.raises(RuntimeError, match="given targets from"):
            loss(half, torch.tensor(wrong))
    with pytest.raises(ShapeError, match=r"given input \(2,\) and target \(1, 2\), expected one shape"):
        loss(half, half[None])
    with pytest.raises(ShapeError, match=r"given target \(2,\) and weight \(3,\), expected shapes"):
        BCELoss(torch.ones(3))(half, half)
    with pytest.raises(ShapeError, match=r"given weight \(3, 2\), larger than target \(2,\)"):
        BCELoss(torch.ones(3, 2))(half, half)
    assert repr(BCELoss(torch.ones(3))) == "BCELoss(weight of shape (3,), reduction='mean')"


def test_bce_of_nothing_is_nan() -> None:
    assert_is_the_twin(BCELoss(), torch.nn.BCELoss(), *batch(0, 3))


def test_bce_compiles_in_one_graph() -> None:
    assert_compiles(BCELoss(), [batch(3, 4), batch(5, 6)])
