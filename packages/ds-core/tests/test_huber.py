"""HuberLoss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import HuberLoss
from ds_core.losses.huber import huber, huber_backward
from ds_core.testing import check_loss, check_twin_grid
from loss_engines import assert_compiles, assert_is_the_twin, handwritten

REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("delta", [1.0, 0.3])
@pytest.mark.parametrize("target_gradient", [False, True])
def test_huber_is_right(shape: tuple[int, ...], reduction: str, delta: float, target_gradient: bool) -> None:
    check_loss(
        HuberLoss(reduction, delta),
        2 * torch.randn(shape),
        torch.randn(shape),
        twin=torch.nn.HuberLoss(reduction, delta),
        target_gradient=target_gradient,
        batch_dim=0 if shape else None,
    )


def test_huber_is_the_twin() -> None:
    grid = {"reduction": REDUCTIONS, "delta": [1.0, 2, 0.1, 1e4, float("inf")]}
    batch = [3 * torch.randn(3, 4), torch.randn(3, 4)]
    assert check_twin_grid(HuberLoss, torch.nn.HuberLoss, grid, batch, constants=["target"]) == 15


def test_worked_example() -> None:
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    target = torch.tensor([[0.0, 2.5], [0.5, 1.0]])
    losses = huber(x, target, 1.5)
    assert losses.tolist() == [[0.5, 0.125], [0.0, 1.875]]
    assert 1.5 * (2 - 0.75) == 1.875
    assert losses.mean() == 0.625
    dlosses = torch.tensor(1 / 4)
    assert dlosses == 0.25
    with torch.no_grad():
        dx, dtarget = huber_backward(dlosses, x, target, 1.5)
    assert dx.tolist() == [[0.25, -0.125], [0.0, -0.375]]
    assert dtarget is not None
    assert dtarget.tolist() == [[-0.25, 0.125], [0.0, 0.375]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("delta", [1.0, 0.25])
def test_huber_at_kinks_and_extremes_in_both_engines(dtype: torch.dtype, delta: float) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, delta, -delta, 1e4, -1e4, 1e30, inf, -inf, inf, float("nan")], dtype=dtype)
    target = torch.zeros(11, dtype=dtype)
    target[9] = inf
    for reduction in REDUCTIONS:
        ours, twin = HuberLoss(reduction, delta), torch.nn.HuberLoss(reduction, delta)
        for i in range(len(x)):
            assert_is_the_twin(ours, twin, x[i], target[i], differentiable=2, target_gradient=True)
        assert_is_the_twin(ours, twin, x, target, differentiable=2, target_gradient=True)


def test_huber_in_bfloat16_rounds_once() -> None:
    x, target = (3 * torch.randn(1000)).bfloat16(), torch.randn(1000).bfloat16()
    exact = huber(x.double(), target.double(), 1.0)
    value, (dx,) = handwritten(HuberLoss("none"), x, target)
    assert torch.equal(value, exact.bfloat16())
    assert torch.equal(dx, (x.double() - target.double()).clamp(-1, 1).bfloat16())
    assert handwritten(HuberLoss("sum"), x, target)[0] == exact.sum().bfloat16()


def test_huber_says_what_is_wrong() -> None:
    for delta in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"HuberLoss: given delta={delta}, expected a number above 0"):
            HuberLoss(delta=delta)
    with pytest.raises(TypeError, match="given delta='1', expected a number"):
        HuberLoss(delta="1")  # type: ignore[arg-type]
    assert repr(HuberLoss("sum", 2.0)) == "HuberLoss(reduction='sum', delta=2.0)"


def test_huber_compiles_in_one_graph() -> None:
    assert_compiles(HuberLoss(), [(torch.randn(3, 4), torch.randn(3, 4)), (torch.randn(5, 6), torch.randn(5, 6))])
