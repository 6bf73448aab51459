"""MultiMarginLoss against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import MultiMarginLoss, ShapeError, record
from ds_core.losses.multi_margin import multi_margin, multi_margin_backward
from ds_core.testing import check_loss, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_engines import assert_compiles, assert_is_the_twin, by_autograd, handwritten

REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("rows", [4, None])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [1.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_multi_margin_is_right(rows: int | None, reduction: str, p: int, margin: float, weighted: bool) -> None:
    shape = () if rows is None else (rows,)
    arguments = {"p": p, "margin": margin, "weight": torch.rand(5) if weighted else None, "reduction": reduction}
    x, target = torch.randn(*shape, 5), torch.randint(0, 5, shape)
    # PyTorch leaves the mean over an empty batch unset; ours is NaN, and check_loss sees no twin there.
    check_loss(
        MultiMarginLoss(**arguments),
        x,
        target,
        twin=torch.nn.MultiMarginLoss(**arguments),
        batch_dim=0 if shape else None,
    )


def test_multi_margin_is_the_twin() -> None:
    grid = {
        "p": [1, 2, 2.0, 3],
        "margin": [1.0, 2, 0.0, -0.5],
        "weight": [None, torch.rand(5), torch.rand(5, 1)],
        "reduction": REDUCTIONS,
    }
    inputs = [torch.randn(4, 5), torch.tensor([0, 4, 2, 2])]
    assert check_twin_grid(MultiMarginLoss, torch.nn.MultiMarginLoss, grid, inputs) == 72


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 4),
    classes=st.integers(1, 5),
    reduction=st.sampled_from(REDUCTIONS),
    p=st.sampled_from([1, 2]),
    weighted=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 100),
)
def test_multi_margin_is_the_twin_for_any_shape(
    rows: int, classes: int, reduction: str, p: int, weighted: bool, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    x, target = torch.randn(rows, classes, dtype=dtype), torch.randint(0, classes, (rows,))
    arguments = {"p": p, "weight": torch.rand(classes, dtype=dtype) if weighted else None, "reduction": reduction}
    assert_is_the_twin(MultiMarginLoss(**arguments), torch.nn.MultiMarginLoss(**arguments), x, target)


def test_worked_example() -> None:
    x = torch.tensor([[0.5, 1.0], [2.0, 1.5]])
    target = torch.tensor([0, 0])
    losses = multi_margin(x, target, 1, 1.0, None)
    assert losses.tolist() == [0.75, 0.25]
    assert losses.mean() == 0.5
    dlosses = torch.tensor(0.5)
    with torch.no_grad():
        assert multi_margin_backward(dlosses, x, target, 1, 1.0, None).tolist() == [[-0.25, 0.25], [-0.25, 0.25]]
        squares = multi_margin(x, target, 2, 1.0, None)
        assert squares.tolist() == [1.125, 0.125]
        assert squares.mean() == 0.625
        dx = multi_margin_backward(dlosses, x, target, 2, 1.0, None)
    assert dx.tolist() == [[-0.75, 0.75], [-0.25, 0.25]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("p", [1, 2])
def test_multi_margin_at_ties_and_extremes_in_both_engines(dtype: torch.dtype, p: int) -> None:
    inf = float("inf")
    rows = [[1, 0, 2], [0, 0, 0], [inf, 0, 0], [0, inf, 0], [-inf, 0, 0], [0, -inf, 0], [1e4, -1e4, 0], [0, 1e4, -1e4]]
    x, target = torch.tensor(rows, dtype=dtype), torch.zeros(len(rows), dtype=torch.int64)
    for reduction in REDUCTIONS:
        ours, twin = MultiMarginLoss(p, reduction=reduction), torch.nn.MultiMarginLoss(p, reduction=reduction)
        assert_is_the_twin(ours, twin, x, target)
        for i in range(len(rows)):
            assert_is_the_twin(ours, twin, x[i : i + 1], target[i : i + 1])


def test_the_mean_of_nothing_is_nan_and_the_sum_0() -> None:
    x, target = torch.randn(0, 3), torch.zeros(0, dtype=torch.int64)
    for reduction, expected in (("mean", "nan"), ("sum", "0.0")):
        value, (dx,) = handwritten(MultiMarginLoss(reduction=reduction), x, target)
        assert str(float(value)) == expected
        assert dx.shape == (0, 3)
    assert_is_the_twin(MultiMarginLoss(reduction="none"), torch.nn.MultiMarginLoss(reduction="none"), x, target)


def test_one_row_takes_a_target_of_one_class_or_none() -> None:
    x = torch.randn(5)
    for target in (torch.tensor(2), torch.tensor([2])):
        assert_is_the_twin(MultiMarginLoss(reduction="none"), torch.nn.MultiMarginLoss(reduction="none"), x, target)


def test_multi_margin_in_bfloat16_rounds_once() -> None:
    x, target = torch.randn(100, 50).bfloat16(), torch.randint(0, 50, (100,))
    expected, (dexpected,) = by_autograd(torch.nn.MultiMarginLoss(2, reduction="none"), (x.double(), target))
    value, (dx,) = handwritten(MultiMarginLoss(2, reduction="none"), x, target)
    assert (value.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(value.double(), expected, rtol=2**-8, atol=0)
    torch.testing.assert_close(dx.double(), dexpected, rtol=2**-8, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_classes_may_be_any_integers(dtype: torch.dtype) -> None:
    x, target = torch.randn(3, 4), torch.tensor([1, 3, 0])
    value, (dx,) = handwritten(MultiMarginLoss(), x, target.to(dtype))
    expected = by_autograd(torch.nn.MultiMarginLoss(), (x, target))
    torch.testing.assert_close((value, dx), (expected[0], expected[1][0]))


def test_multi_margin_says_what_is_wrong() -> None:
    x, loss = torch.randn(3, 5), MultiMarginLoss()
    with pytest.raises(ValueError, match="MultiMarginLoss: given p=3, expected 1 or 2"):
        MultiMarginLoss(3)
    with pytest.raises(ValueError, match=r"weight of shape \(5, 1\), expected \(classes,\)"):
        MultiMarginLoss(weight=torch.ones(5, 1))
    for target in (torch.tensor([0, 1]), torch.tensor([0.0, 1.0, 2.0]), torch.zeros(3, 1, dtype=torch.long)):
        with pytest.raises(ShapeError, match=r"given input \(3, 5\) and target .* expected scores \(N, C\)"):
            loss(x, target)
    for shape in ((3, 5, 1), (3, 0), ()):
        with pytest.raises(ShapeError, match="given input"):
            loss(torch.zeros(shape), torch.tensor([0, 0, 0]))
    with pytest.raises(ShapeError, match=r"weight of shape \(4,\), expected \(5,\)"):
        MultiMarginLoss(weight=torch.ones(4))(x, torch.tensor([0, 1, 2]))
    for wrong in (5, -1):
        with pytest.raises(IndexError, match=rf"MultiMarginLoss.*given the target {wrong}, expected 0 ... 4$"):
            loss(x, torch.tensor([0, wrong, 1]))
    with record():
        loss(x, torch.tensor([0, 1, 2]))
        with pytest.raises(ValueError, match="classes have no gradient"):
            loss.backward(target_gradient=True)
    assert repr(loss) == "MultiMarginLoss(p=1, margin=1.0, reduction='mean')"


def test_multi_margin_compiles_in_one_graph() -> None:
    batches = [(torch.randn(n, c), torch.randint(0, c, (n,))) for n, c in ((3, 4), (5, 6))]
    assert_compiles(MultiMarginLoss(2, weight=None), batches)
    assert_compiles(MultiMarginLoss(reduction="none"), batches)
