"""L1Loss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import L1Loss
from ds_core.losses.l1 import absolute_error, absolute_error_backward
from ds_core.testing import check_loss, check_twin_grid
from loss_engines import assert_compiles, assert_is_the_twin, handwritten

REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("target_gradient", [False, True])
def test_l1_is_right(shape: tuple[int, ...], reduction: str, target_gradient: bool) -> None:
    check_loss(
        L1Loss(reduction),
        torch.randn(shape),
        torch.randn(shape),
        twin=torch.nn.L1Loss(reduction=reduction),
        target_gradient=target_gradient,
        batch_dim=0 if shape else None,
    )


def test_l1_is_the_twin() -> None:
    batch = [torch.randn(3, 4), torch.randn(3, 4)]
    assert check_twin_grid(L1Loss, torch.nn.L1Loss, {"reduction": REDUCTIONS}, batch, constants=["target"]) == 3


def test_worked_example() -> None:
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    target = torch.tensor([[0.0, 2.5], [0.5, 1.0]])
    losses = absolute_error(x, target)
    assert losses.tolist() == [[1.0, 0.5], [0.0, 2.0]]
    assert (losses.sum(), losses.mean()) == (3.5, 0.875)
    dlosses = torch.tensor(1 / 4)
    assert dlosses == 0.25
    with torch.no_grad():
        dx, dtarget = absolute_error_backward(dlosses, x, target)
    assert dx.tolist() == [[0.25, -0.25], [0.0, -0.25]]
    assert dtarget is not None
    assert dtarget.tolist() == [[-0.25, 0.25], [0.0, 0.25]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_l1_at_the_kink_and_extremes_in_both_engines(dtype: torch.dtype, reduction: str) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, 1e30, inf, -inf, inf, float("nan"), 3.0], dtype=dtype)
    target = torch.tensor([0.0, 0.0, 0.0, 1e4, 0.0, 0.0, 0.0, inf, 0.0, 3.0], dtype=dtype)
    arguments = {"differentiable": 2, "target_gradient": True}
    assert_is_the_twin(L1Loss(reduction), torch.nn.L1Loss(reduction=reduction), x, target, **arguments)
    for i in range(len(x)):
        assert_is_the_twin(L1Loss(reduction), torch.nn.L1Loss(reduction=reduction), x[i], target[i], **arguments)


def test_l1_in_bfloat16_sums_in_float32() -> None:
    x, target = torch.full((1000,), 1.5).bfloat16(), torch.full((1000,), 0.4).bfloat16()
    exact = float((x.double() - target.double())[0])
    value, (dx,) = handwritten(L1Loss("sum"), x, target)
    assert (value.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    assert value == torch.tensor(1000 * exact).bfloat16()
    assert torch.equal(dx, torch.ones(1000).bfloat16())


def test_l1_compiles_in_one_graph() -> None:
    assert_compiles(L1Loss(), [(torch.randn(3, 4), torch.randn(3, 4)), (torch.randn(5, 6), torch.randn(5, 6))])
