"""BCEWithLogitsLoss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import BCEWithLogitsLoss, ShapeError
from ds_core.losses.bce_with_logits import bce_with_logits, bce_with_logits_backward
from ds_core.testing import check_loss, check_twin_grid
from loss_engines import assert_compiles, assert_is_the_twin, by_autograd, handwritten

REDUCTIONS = ["mean", "sum", "none"]


def batch(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return 3 * torch.randn(shape), torch.rand(shape)


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("target_gradient", [False, True])
def test_bce_with_logits_is_right(
    shape: tuple[int, ...], reduction: str, weighted: tuple[bool, bool], target_gradient: bool
) -> None:
    weight, pos_weight = (torch.rand(shape[-1:]) + 0.5 if wanted else None for wanted in weighted)
    check_loss(
        BCEWithLogitsLoss(weight, reduction, pos_weight),
        *batch(*shape),
        twin=torch.nn.BCEWithLogitsLoss(weight, reduction=reduction, pos_weight=pos_weight),
        target_gradient=target_gradient,
        batch_dim=0 if len(shape) > 1 else None,
        samples=4,
    )


def test_bce_with_logits_is_the_twin() -> None:
    weights = [None, torch.rand(()), torch.rand(4), torch.rand(3, 1), torch.rand(3, 4)]
    grid = {"weight": weights, "reduction": REDUCTIONS, "pos_weight": [*weights, torch.zeros(4)]}
    inputs = batch(3, 4)
    assert check_twin_grid(BCEWithLogitsLoss, torch.nn.BCEWithLogitsLoss, grid, inputs, constants=["target"]) == 90


def test_worked_example() -> None:
    x = torch.tensor([[0.0, 2.0], [-1.0, 1.0]])
    target = torch.tensor([[1.0, 0.0], [1.0, 0.5]])
    pos_weight = torch.tensor([1.0, 3.0]).expand(2, 2)
    near = {"rtol": 0, "atol": 5e-5}
    losses = bce_with_logits(x, target, None, pos_weight)
    torch.testing.assert_close(losses, torch.tensor([[0.6931, 2.1269], [1.3133, 1.1265]]), **near)
    assert torch.log1p(torch.tensor(-1.0).exp()) == pytest.approx(0.3133, abs=5e-5)
    assert pytest.approx(1.1265, abs=2e-4) == 0.5 * 1 + (0.5 + 1.5) * 0.3133
    torch.testing.assert_close(losses.mean(), torch.tensor(1.3150), **near)
    dlosses = torch.tensor(0.25)
    assert torch.tensor(1.0).sigmoid() == pytest.approx(0.7311, abs=5e-5)
    assert pytest.approx(-0.0095, abs=5e-5) == 0.25 * (0.5 * 0.7311 - 1.5 * 0.2689)
    with torch.no_grad():
        dx, dtarget = bce_with_logits_backward(dlosses, x, target, None, pos_weight)
    torch.testing.assert_close(dx, torch.tensor([[-0.125, 0.2202], [-0.1828, -0.0095]]), **near)
    torch.testing.assert_close(dtarget, torch.tensor([[0.0, -0.4365], [0.25, -0.0934]]), **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pos_weight", [None, 0.5, 3.0])
@pytest.mark.parametrize("label", [0.0, 1.0, 0.25])
def test_bce_with_logits_at_extremes_in_both_engines(
    dtype: torch.dtype, pos_weight: float | None, label: float
) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, inf, -inf, 30.0, -30.0, 1e30, float("nan")], dtype=dtype)
    weight = None if pos_weight is None else torch.tensor(pos_weight, dtype=dtype)
    near = {"rtol": 1e-5, "atol": 1e-12}
    for logit, target in zip(x, torch.full_like(x, label), strict=True):
        for reduction in REDUCTIONS:
            ours = BCEWithLogitsLoss(reduction=reduction, pos_weight=weight)
            twin = torch.nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=weight)
            if logit.isnan() or not twin(logit, target).isnan():
                assert_is_the_twin(ours, twin, logit, target, **near)
                continue
            # 0 times infinity, or a difference of infinities, in the twin's value; its gradient is right
            value, (dx,) = handwritten(ours, logit, target)
            assert not value.isfinite()
            torch.testing.assert_close(dx, by_autograd(twin, (logit, target))[1][0], **near)


def test_small_losses_and_slopes_keep_their_digits() -> None:
    x, target = torch.tensor([-20.0, 20.0]), torch.tensor([0.0, 1.0])
    small = torch.tensor(2.0611537e-9)
    value, (dx,) = handwritten(BCEWithLogitsLoss(reduction="none"), x, target)
    torch.testing.assert_close(value, small.expand(2), rtol=1e-5, atol=0)
    torch.testing.assert_close(dx, torch.stack([small, -small]), rtol=1e-5, atol=0)


def test_bce_with_logits_in_bfloat16_rounds_once() -> None:
    x, target = (tensor.bfloat16() for tensor in batch(1000))
    with torch.no_grad():
        exact = bce_with_logits(x.double(), target.double())
        slope, _ = bce_with_logits_backward(torch.tensor(1.0), x.double(), target.double())
    value, (dx,) = handwritten(BCEWithLogitsLoss(reduction="none"), x, target)
    assert (value.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(value.double(), exact, rtol=2**-8, atol=0)
    torch.testing.assert_close(dx.double(), slope, rtol=2**-8, atol=1e-7)
    assert handwritten(BCEWithLogitsLoss(reduction="sum"), x, target)[0] == exact.sum().bfloat16()


def test_bce_with_logits_says_what_is_wrong() -> None:
    x = torch.randn(2)
    with pytest.raises(ShapeError, match=r"given input \(2,\) and target \(1, 2\), expected one shape"):
        BCEWithLogitsLoss()(x, x[None])
    with pytest.raises(ShapeError, match=r"given target \(2,\) and pos_weight \(3,\), expected shapes"):
        BCEWithLogitsLoss(pos_weight=torch.ones(3))(x, x)
    with pytest.raises(ShapeError, match=r"given weight \(3, 2\), larger than target \(2,\)"):
        BCEWithLogitsLoss(torch.ones(3, 2))(x, x)
    expected = "BCEWithLogitsLoss(pos_weight of shape (2,), reduction='sum')"
    assert repr(BCEWithLogitsLoss(reduction="sum", pos_weight=torch.ones(2))) == expected


def test_bce_with_logits_compiles_in_one_graph() -> None:
    assert_compiles(BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), [batch(3, 4), batch(5, 6)])
