"""KLDivLoss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import KLDivLoss
from ds_core.losses.kl_div import kl_div, kl_div_backward
from ds_core.testing import check_loss, check_twin_grid
from loss_engines import assert_compiles, assert_is_the_twin, by_autograd, handwritten

REDUCTIONS = ["mean", "batchmean", "sum", "none"]
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")


def batch(shape: tuple[int, ...], log_target: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    dim = -1 if shape else 0
    target = torch.randn(shape).softmax(dim)
    return torch.randn(shape), target.log() if log_target else target


@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("target_gradient", [False, True])
def test_kl_div_is_right(shape: tuple[int, ...], reduction: str, log_target: bool, target_gradient: bool) -> None:
    check_loss(
        KLDivLoss(reduction, log_target),
        *batch(shape, log_target),
        twin=torch.nn.KLDivLoss(reduction=reduction, log_target=log_target),
        target_gradient=target_gradient,
        batch_dim=0 if len(shape) > 1 else None,
    )


@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div_is_the_twin(log_target: bool) -> None:
    grid = {"reduction": REDUCTIONS, "log_target": [log_target]}
    inputs = batch((3, 4), log_target)
    assert check_twin_grid(KLDivLoss, torch.nn.KLDivLoss, grid, inputs, constants=["target"]) == 4


def test_worked_example() -> None:
    x = torch.tensor([[0.5, 0.5], [0.75, 0.25]]).log()
    target = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    near = {"rtol": 0, "atol": 5e-5}
    torch.testing.assert_close(x, torch.tensor([[-0.6931, -0.6931], [-0.2877, -1.3863]]), **near)
    losses = kl_div(x, target)
    torch.testing.assert_close(losses, torch.tensor([[0.0, 0.0], [-0.2747, 0.8240]]), **near)
    torch.testing.assert_close(losses.sum() / 2, torch.tensor(0.2747), **near)
    dlosses = torch.tensor(0.5)
    with torch.no_grad():
        dx, dtarget = kl_div_backward(dlosses, x, target)
        torch.testing.assert_close(dx, torch.tensor([[-0.25, -0.25], [-0.125, -0.375]]), **near)
        assert pytest.approx(1.0493) == 0.5 * (1.0986 + 1)
        torch.testing.assert_close(dtarget, torch.tensor([[0.5, 0.5], [-0.0493, 1.0493]]), **near)
        same, dlog = kl_div_backward(dlosses, x, target.log(), True)
    torch.testing.assert_close(same, dx)
    torch.testing.assert_close(dlog, torch.tensor([[0.25, 0.25], [-0.0123, 0.7870]]), **near)


@pytest.mark.parametrize("log_target", [False, True])
def test_a_target_of_zero_counts_for_nothing_in_both_engines(log_target: bool) -> None:
    inf = float("inf")
    x, target = torch.tensor([-1.0, -inf, 0.0, -inf, -1e4]), torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    given = target.log() if log_target else target
    loss = KLDivLoss("sum", log_target)
    found = [handwritten(loss, x, given, target_gradient=True), by_autograd(loss, (x, given), 2)]
    for value, (dx, dtarget) in found:
        assert value == 0
        assert torch.equal(dx, -target)
        assert dtarget[[0, 1, 3, 4]].tolist() == [0, 0, 0, 0]
        assert dtarget[2] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_div_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    x = torch.tensor([-inf, -1e4, 1e4, -0.5, float("nan"), 0.0], dtype=dtype)
    for target in ([0.5, 0.2, 0.2, 1e4, 0.3, -1.0], [1.0, 1e-30, 1.0, 1e-10, 1.0, 0.5]):
        t = torch.tensor(target, dtype=dtype)
        for reduction in REDUCTIONS:
            ours, twin = KLDivLoss(reduction), torch.nn.KLDivLoss(reduction=reduction)
            assert_is_the_twin(ours, twin, x, t, differentiable=2, target_gradient=True)
            for i in range(len(x)):
                assert_is_the_twin(ours, twin, x[i], t[i], differentiable=2, target_gradient=True)
    s = torch.tensor([-1e4, -0.5, 0.0, -30.0, 2.0, -1.0], dtype=dtype)
    for reduction in REDUCTIONS:
        ours, twin = KLDivLoss(reduction, True), torch.nn.KLDivLoss(reduction=reduction, log_target=True)
        for i in range(1, len(x)):
            assert_is_the_twin(ours, twin, x[i], s[i], differentiable=2, target_gradient=True)


def test_kl_div_in_bfloat16_rounds_once() -> None:
    x, target = (tensor.bfloat16() for tensor in batch((1000,)))
    exact = kl_div(x.double(), target.double())
    value, (dx,) = handwritten(KLDivLoss("none"), x, target)
    torch.testing.assert_close(value.double(), exact, rtol=2**-8, atol=0)
    assert torch.equal(dx, -target)
    assert handwritten(KLDivLoss("sum"), x, target)[0] == exact.sum().bfloat16()


@pytest.mark.parametrize("shapes", [((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (3, 4)), ((0, 3), (0, 3)), ((), ())])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_kl_div_broadcasts_as_the_twin(shapes: tuple[tuple[int, ...], ...], reduction: str) -> None:
    x, target = torch.randn(shapes[0]), torch.rand(shapes[1])
    ours, twin = KLDivLoss(reduction), torch.nn.KLDivLoss(reduction=reduction)
    assert_is_the_twin(ours, twin, x, target, differentiable=2, target_gradient=True)


def test_kl_div_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r'"mean", "batchmean", "sum" or "none"; did you mean batchmean\?'):
        KLDivLoss("batch_mean")
    assert repr(KLDivLoss("batchmean", True)) == "KLDivLoss(reduction='batchmean', log_target=True)"
    assert KLDivLoss("batchmean").reduction == "batchmean"


def test_kl_div_compiles_in_one_graph() -> None:
    assert_compiles(KLDivLoss("batchmean"), [batch((3, 4)), batch((5, 6))])
    assert_compiles(KLDivLoss("mean", True), [batch((3, 4), True), batch((5, 6), True)])
