"""MSELoss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import MSELoss, record
from ds_core.losses.mse import squared_error, squared_error_backward
from ds_core.testing import check_loss, check_twin_grid
from loss_engines import assert_compiles, assert_is_the_twin, handwritten

REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("target_gradient", [False, True])
def test_mse_is_right(shape: tuple[int, ...], reduction: str, target_gradient: bool) -> None:
    check_loss(
        MSELoss(reduction),
        torch.randn(shape),
        torch.randn(shape),
        twin=torch.nn.MSELoss(reduction=reduction),
        target_gradient=target_gradient,
        batch_dim=0 if shape else None,
    )


def test_mse_is_the_twin() -> None:
    batch = [torch.randn(3, 4), torch.randn(3, 4)]
    assert check_twin_grid(MSELoss, torch.nn.MSELoss, {"reduction": REDUCTIONS}, batch, constants=["target"]) == 3


def test_worked_example() -> None:
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    target = torch.tensor([[0.0, 2.5], [0.5, 1.0]])
    losses = squared_error(x, target)
    assert losses.tolist() == [[1.0, 0.25], [0.0, 4.0]]
    assert (losses.sum(), losses.mean()) == (5.25, 1.3125)
    dlosses = torch.tensor(1 / 4)
    assert dlosses == 0.25
    with torch.no_grad():
        dx, dtarget = squared_error_backward(dlosses, x, target)
    assert dx.tolist() == [[0.5, -0.25], [0.0, -1.0]]
    assert dtarget is not None
    assert dtarget.tolist() == [[-0.5, 0.25], [0.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mse_at_extremes_in_both_engines(dtype: torch.dtype, reduction: str) -> None:
    inf = float("inf")
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, 1e30, inf, -inf, inf, float("nan")], dtype=dtype)
    target = torch.tensor([0.0, 0.0, 0.0, 1e4, 0.0, 0.0, 0.0, inf, 0.0], dtype=dtype)
    arguments = {"differentiable": 2, "target_gradient": True}
    assert_is_the_twin(MSELoss(reduction), torch.nn.MSELoss(reduction=reduction), x, target, **arguments)
    for i in range(len(x)):
        assert_is_the_twin(MSELoss(reduction), torch.nn.MSELoss(reduction=reduction), x[i], target[i], **arguments)


def test_mse_in_bfloat16_sums_in_float32() -> None:
    x, target = torch.full((1000,), 1.5).bfloat16(), torch.full((1000,), 0.4).bfloat16()
    exact = float((x.double() - target.double())[0])
    value, (dx,) = handwritten(MSELoss("sum"), x, target)
    assert (value.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    assert value == torch.tensor(1000 * exact**2).bfloat16()
    assert torch.equal(dx, torch.full((1000,), 2 * exact).bfloat16())


def test_mse_keeps_the_input_and_the_target_themselves() -> None:
    loss, x, target = MSELoss(), torch.randn(10, 20), torch.randn(10, 20)
    with record() as trace:
        loss(x, target)
        assert trace.entries[0].saved[0] is x
        assert trace.entries[0].saved[1] is target
        assert sum(line.bytes for line in trace.kept()) == 2 * 10 * 20 * 4
        loss.backward()


def test_mse_compiles_in_one_graph() -> None:
    assert_compiles(MSELoss(), [(torch.randn(3, 4), torch.randn(3, 4)), (torch.randn(5, 6), torch.randn(5, 6))])
