"""SmoothL1Loss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import SmoothL1Loss
from ds_core.losses.smooth_l1 import smooth_l1, smooth_l1_backward
from ds_core.testing import check_loss, check_twin_grid
from loss_engines import assert_compiles, assert_is_the_twin, handwritten

REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("beta", [1.0, 0.3, 0])
@pytest.mark.parametrize("target_gradient", [False, True])
def test_smooth_l1_is_right(shape: tuple[int, ...], reduction: str, beta: float, target_gradient: bool) -> None:
    check_loss(
        SmoothL1Loss(reduction, beta),
        2 * torch.randn(shape),
        torch.randn(shape),
        twin=torch.nn.SmoothL1Loss(reduction=reduction, beta=beta),
        target_gradient=target_gradient,
        batch_dim=0 if shape else None,
    )


def test_smooth_l1_is_the_twin() -> None:
    grid = {"reduction": REDUCTIONS, "beta": [1.0, 2, 0.1, 0.0, 1e4, float("inf")]}
    batch = [3 * torch.randn(3, 4), torch.randn(3, 4)]
    assert check_twin_grid(SmoothL1Loss, torch.nn.SmoothL1Loss, grid, batch, constants=["target"]) == 18


def test_worked_example() -> None:
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    target = torch.tensor([[0.0, 2.5], [0.5, 1.0]])
    losses = smooth_l1(x, target, 0.8)
    torch.testing.assert_close(losses, torch.tensor([[0.6, 0.15625], [0.0, 1.6]]))
    torch.testing.assert_close(losses[0, 1], torch.tensor(0.5 / 0.8 * (0.5 - 0.25)))
    torch.testing.assert_close(losses.mean(), torch.tensor(0.5891), rtol=0, atol=5e-5)
    dlosses = torch.tensor(1 / 4)
    assert dlosses == 0.25
    with torch.no_grad():
        dx, dtarget = smooth_l1_backward(dlosses, x, target, 0.8)
    torch.testing.assert_close(dx, torch.tensor([[0.25, -0.15625], [0.0, -0.25]]))
    torch.testing.assert_close(dtarget, torch.tensor([[-0.25, 0.15625], [0.0, 0.25]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [1.0, 0.25, 0.0])
def test_smooth_l1_at_kinks_and_extremes_in_both_engines(dtype: torch.dtype, beta: float) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, beta, -beta, 1e4, -1e4, 1e30, inf, -inf, inf, float("nan")], dtype=dtype)
    target = torch.zeros(11, dtype=dtype)
    target[9] = inf
    for reduction in REDUCTIONS:
        ours, twin = SmoothL1Loss(reduction, beta), torch.nn.SmoothL1Loss(reduction=reduction, beta=beta)
        for i in range(len(x)):
            assert_is_the_twin(ours, twin, x[i], target[i], differentiable=2, target_gradient=True)
        assert_is_the_twin(ours, twin, x, target, differentiable=2, target_gradient=True)


def test_smooth_l1_of_large_errors_and_a_large_beta_is_finite() -> None:
    x, target = torch.tensor([1e37, -1e37]), torch.zeros(2)
    assert_is_the_twin(SmoothL1Loss("none", 1e4), torch.nn.SmoothL1Loss(reduction="none", beta=1e4), x, target)


def test_smooth_l1_in_bfloat16_rounds_once() -> None:
    x, target = (3 * torch.randn(1000)).bfloat16(), torch.randn(1000).bfloat16()
    exact = smooth_l1(x.double(), target.double(), 0.5)
    value, (dx,) = handwritten(SmoothL1Loss("none", 0.5), x, target)
    assert torch.equal(value, exact.bfloat16())
    assert torch.equal(dx, (2 * (x.double() - target.double())).clamp(-1, 1).bfloat16())
    assert handwritten(SmoothL1Loss("sum", 0.5), x, target)[0] == exact.sum().bfloat16()


def test_smooth_l1_says_what_is_wrong() -> None:
    for beta in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"SmoothL1Loss: given beta={beta}, expected a number of at least 0"):
            SmoothL1Loss(beta=beta)
    assert repr(SmoothL1Loss("sum", 2.0)) == "SmoothL1Loss(reduction='sum', beta=2.0)"


@pytest.mark.parametrize("beta", [1.0, 0.0])
def test_smooth_l1_compiles_in_one_graph(beta: float) -> None:
    batches = [(torch.randn(3, 4), torch.randn(3, 4)), (torch.randn(5, 6), torch.randn(5, 6))]
    assert_compiles(SmoothL1Loss(beta=beta), batches)
