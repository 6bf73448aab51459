"""MarginRankingLoss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import MarginRankingLoss, ShapeError, record
from ds_core.losses.margin_ranking import margin_ranking, margin_ranking_backward
from ds_core.speed.elementwise import CHUNK
from ds_core.testing import check_loss, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_engines import assert_compiles, assert_is_the_twin, by_autograd, handwritten

REDUCTIONS = ["mean", "sum", "none"]


def batch(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(shape), torch.randn(shape), 2.0 * torch.randint(0, 2, shape) - 1


@pytest.mark.parametrize("shape", [(), (6,), (3, 4)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [0.0, 0.4])
@pytest.mark.parametrize("target_gradient", [False, True])
def test_margin_ranking_is_right(shape: tuple[int, ...], reduction: str, margin: float, target_gradient: bool) -> None:
    x1, x2, target = batch(*shape)
    twin = torch.nn.MarginRankingLoss(margin, reduction=reduction)
    for labels in (target,) if target_gradient else (target, target.long()):
        check_loss(
            MarginRankingLoss(margin, reduction),
            x1,
            x2,
            labels,
            twin=twin,
            target_gradient=target_gradient,
            batch_dim=0 if shape else None,
        )


def test_margin_ranking_is_the_twin() -> None:
    grid = {"margin": [0.0, 0.5, -0.5, 1], "reduction": REDUCTIONS}
    twin = torch.nn.MarginRankingLoss
    assert check_twin_grid(MarginRankingLoss, twin, grid, batch(6), constants=["target"]) == 12


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(0, 3), max_size=3),
    ones=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=3, max_size=3),
    reduction=st.sampled_from(REDUCTIONS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 100),
)
def test_margin_ranking_is_the_twin_for_any_shapes(
    shape: list[int], ones: list[tuple[bool, bool, bool]], reduction: str, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    x1, x2, target = (
        torch.randn([1 if one[i] else n for n, one in zip(shape, ones, strict=False)], dtype=dtype) for i in range(3)
    )
    ours, twin = MarginRankingLoss(0.2, reduction), torch.nn.MarginRankingLoss(0.2, reduction=reduction)
    assert_is_the_twin(ours, twin, x1, x2, target, differentiable=3, target_gradient=True)


def test_worked_example() -> None:
    x1, x2 = torch.tensor([[1.0, 0.5], [2.0, 0.25]]), torch.tensor([[0.0, 0.25], [0.5, 1.0]])
    target = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    losses = margin_ranking(x1, x2, target, 0.5)
    assert losses.tolist() == [[0.0, 0.25], [2.0, 0.0]]
    assert losses.mean() == 0.5625
    dlosses = torch.tensor(0.25)
    with torch.no_grad():
        dx1, dx2, dtarget = margin_ranking_backward(dlosses, x1, x2, target, 0.5)
    assert dx1.tolist() == [[0.0, -0.25], [0.25, 0.0]]
    assert dx2.tolist() == [[0.0, 0.25], [-0.25, 0.0]]
    assert dtarget.tolist() == [[0.0, -0.0625], [-0.375, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_margin_ranking_at_ties_and_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    x1 = torch.tensor([0.0, 1.0, 2.0, 1e4, -1e4, inf, -inf, float("nan")], dtype=dtype)
    x2 = torch.tensor([0.0, 0.0, 1.0, -1e4, 1e4, 0.0, 0.0, 0.0], dtype=dtype)
    for label in (1.0, -1.0, 0.0):
        target = torch.full_like(x1, label)
        for margin in (0.0, 1.0):
            for reduction in REDUCTIONS:
                ours, twin = (
                    MarginRankingLoss(margin, reduction),
                    torch.nn.MarginRankingLoss(margin, reduction=reduction),
                )
                for i in range(len(x1)):
                    assert_is_the_twin(ours, twin, x1[i], x2[i], target[i], differentiable=2)


def test_margin_ranking_piece_by_piece_is_that_of_the_numbers() -> None:
    x1, x2, target = batch(CHUNK + 77)
    for reduction in REDUCTIONS:
        ours, twin = MarginRankingLoss(0.3, reduction), torch.nn.MarginRankingLoss(0.3, reduction=reduction)
        assert_is_the_twin(ours, twin, x1, x2, target, differentiable=3, target_gradient=True)


def test_margin_ranking_in_bfloat16_rounds_once() -> None:
    x1, x2, target = (tensor.bfloat16() for tensor in batch(1000))
    exact, right = by_autograd(
        torch.nn.MarginRankingLoss(0.3, reduction="none"), (x1.double(), x2.double(), target.double()), 3
    )
    value, found = handwritten(MarginRankingLoss(0.3, "none"), x1, x2, target, target_gradient=True)
    assert torch.equal(value, exact.bfloat16())
    for gradient, expected in zip(found, right, strict=True):
        assert torch.equal(gradient, expected.bfloat16())
    assert handwritten(MarginRankingLoss(0.3, "sum"), x1, x2, target)[0] == exact.sum().bfloat16()


def test_margin_ranking_says_what_is_wrong() -> None:
    loss = MarginRankingLoss()
    with pytest.raises(ShapeError, match=r"input1 \(2,\), input2 \(1, 2\) and target \(2,\), expected as many"):
        loss(torch.zeros(2), torch.zeros(1, 2), torch.zeros(2))
    with pytest.raises(ShapeError, match=r"input1 \(2,\) and input2 \(3,\) and target \(2,\)"):
        loss(torch.zeros(2), torch.zeros(3), torch.zeros(2))
    with record():
        loss(torch.zeros(2), torch.zeros(2), torch.tensor([1, -1]))
        with pytest.raises(ValueError, match=r"target_gradient=True, but a target of torch\.int64 has no gradient"):
            loss.backward(target_gradient=True)
    assert repr(loss) == "MarginRankingLoss(margin=0.0, reduction='mean')"


def test_margin_ranking_compiles_in_one_graph() -> None:
    assert_compiles(MarginRankingLoss(0.1), [batch(3, 2), batch(6, 4)])
    assert_compiles(MarginRankingLoss(0.1, "none"), [batch(3, 2), batch(6, 4)])
