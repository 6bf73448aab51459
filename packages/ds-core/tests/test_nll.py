"""NLLLoss against finite differences, autograd, torch.nn, CrossEntropyLoss and a worked example."""

import pytest
import torch
from ds_core import CrossEntropyLoss, NLLLoss, ShapeError, record
from ds_core.losses.nll import nll, nll_backward
from ds_core.testing import check_loss, check_twin_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_engines import assert_compiles, assert_is_the_twin, by_autograd, handwritten

REDUCTIONS = ["mean", "sum", "none"]
Shapes = tuple[tuple[int, ...], tuple[int, ...]]
SHAPES: list[Shapes] = [((6, 5), (6,)), ((5,), ()), ((3, 5, 4), (3, 4)), ((2, 5, 3, 2), (2, 3, 2))]


def class_batch(shapes: Shapes, ignored: int | None = -100) -> tuple[torch.Tensor, torch.Tensor]:
    x, target = torch.randn(shapes[0]), torch.randint(0, 5, shapes[1])
    if ignored is not None and target.dim() > 0:
        target[0] = ignored
    return x, target


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_nll_is_right(shapes: Shapes, reduction: str, weighted: bool) -> None:
    arguments = {"weight": torch.rand(5) + 0.1 if weighted else None, "reduction": reduction}
    batch_dim = 0 if len(shapes[1]) > 0 else None
    check_loss(NLLLoss(**arguments), *class_batch(shapes), twin=torch.nn.NLLLoss(**arguments), batch_dim=batch_dim)


def test_nll_is_the_twin_whatever_is_ignored() -> None:
    grid = {
        "weight": [None, torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0])],
        "ignore_index": [-100, -1, 2],
        "reduction": REDUCTIONS,
    }
    for ignored in grid["ignore_index"]:
        batch = class_batch(((4, 5, 3), (4, 3)), ignored)
        assert check_twin_grid(NLLLoss, torch.nn.NLLLoss, {**grid, "ignore_index": [ignored]}, batch) == 6


@settings(max_examples=25, deadline=None)
@given(
    positions=st.lists(st.integers(0, 3), max_size=3),
    batch=st.integers(0, 3),
    reduction=st.sampled_from(REDUCTIONS),
    weighted=st.booleans(),
    ignored=st.sampled_from([-100, 0, 3]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 100),
)
def test_nll_is_the_twin_for_any_shape(
    positions: list[int], batch: int, reduction: str, weighted: bool, ignored: int, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    x, target = torch.randn(batch, 4, *positions, dtype=dtype), torch.randint(0, 4, (batch, *positions))
    weight = torch.rand(4, dtype=dtype) if weighted else None
    assert_is_the_twin(
        NLLLoss(weight, ignored, reduction), torch.nn.NLLLoss(weight, None, ignored, None, reduction), x, target
    )


def test_cross_entropy_is_the_nll_of_a_log_softmax() -> None:
    x, target = class_batch(SHAPES[2])
    weight = torch.rand(5)
    expected = CrossEntropyLoss(weight)(x, target)
    torch.testing.assert_close(NLLLoss(weight)(torch.log_softmax(x, 1), target), expected)


def test_worked_example() -> None:
    x = torch.tensor([[-0.5, -1.0], [-0.25, -2.0]])
    target, nothing = torch.tensor([0, 1]), torch.tensor([False, False])
    losses, shares = nll(x, target, nothing, torch.tensor([1.0, 3.0]))
    assert losses.tolist() == [0.5, 6.0]
    assert shares.tolist() == [1.0, 3.0]
    assert losses.sum() == 6.5
    assert losses.sum() / shares.sum() == 1.625
    dlosses = 1 / shares.sum()
    assert dlosses == 0.25
    assert nll_backward(dlosses, shares, target, nothing, x).tolist() == [[-0.25, 0.0], [0.0, -0.75]]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shapes", [((3, 5), (3,)), ((0, 5), (0,)), ((2, 5, 3), (2, 3)), ((5,), ())])
def test_nothing_to_average_gives_nan_and_no_gradient_as_in_the_twin(weighted: bool, shapes: Shapes) -> None:
    weight = torch.rand(5) if weighted else None
    x, target = torch.randn(shapes[0]), torch.full(shapes[1], -100)
    ours, twin = NLLLoss(weight), torch.nn.NLLLoss(weight)
    assert_is_the_twin(ours, twin, x, target)
    value, (dx,) = handwritten(ours, x, target)
    assert value.isnan()
    assert torch.equal(dx, torch.zeros_like(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nll_at_extremes_in_both_engines(dtype: torch.dtype) -> None:
    inf = float("inf")
    x = torch.tensor([[0.0, -inf], [-inf, 0.0], [-1e4, 1e4], [float("nan"), 0.0], [-inf, -inf]], dtype=dtype)
    target = torch.tensor([0, 0, 0, 1, -100])
    for weight in (None, torch.tensor([2.0, 0.5], dtype=dtype), torch.tensor([0.0, 1.0], dtype=dtype)):
        for reduction in REDUCTIONS:
            ours, twin = NLLLoss(weight, reduction=reduction), torch.nn.NLLLoss(weight, reduction=reduction)
            assert_is_the_twin(ours, twin, x, target)
            for i in range(len(x)):
                assert_is_the_twin(ours, twin, x[i : i + 1], target[i : i + 1])


def test_nll_in_bfloat16_sums_in_float32() -> None:
    x, target = torch.full((1000, 2), -1.5).bfloat16(), torch.zeros(1000, dtype=torch.int64)
    value, (dx,) = handwritten(NLLLoss(reduction="sum"), x, target)
    assert (value.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    assert value == torch.tensor(1500.0).bfloat16()
    mean, (dmean,) = handwritten(NLLLoss(weight=torch.tensor([0.3, 1.0])), x, target)
    assert mean == 1.5
    torch.testing.assert_close(dmean[:, 0], torch.full((1000,), -1e-3).bfloat16(), rtol=4e-3, atol=0)
    assert torch.equal(dx[:, 1], torch.zeros(1000).bfloat16())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_classes_may_be_any_integers(dtype: torch.dtype) -> None:
    x, target = class_batch(SHAPES[0], None)
    value, (dx,) = handwritten(NLLLoss(), x, target.to(dtype))
    expected = by_autograd(torch.nn.NLLLoss(), (x, target))
    torch.testing.assert_close((value, dx), (expected[0], expected[1][0]))


def test_nll_says_what_is_wrong() -> None:
    x, loss = torch.randn(3, 5), NLLLoss()
    with pytest.raises(ValueError, match=r"NLLLoss: given reduction='means'.*did you mean mean\?"):
        NLLLoss(reduction="means")
    for target in (torch.tensor([0, 1]), torch.tensor([0.0, 1.0, 2.0]), torch.zeros(3, 4, dtype=torch.long)):
        with pytest.raises(ShapeError, match=r"given input \(3, 5\) and target .* a target \(3,\) of classes"):
            loss(x, target)
    with pytest.raises(ShapeError, match=r"given input \(\) and target \(1,\)"):
        loss(torch.tensor(1.0), torch.tensor([0]))
    with pytest.raises(ShapeError, match=r"weight of shape \(4,\), expected \(5,\)"):
        NLLLoss(weight=torch.ones(4))(x, torch.tensor([0, 1, 2]))
    for wrong in (5, -1):
        with pytest.raises(IndexError, match=rf"NLLLoss.*target {wrong}, expected 0 ... 4 or ignore_index -100"):
            loss(x, torch.tensor([0, wrong, -100]))
    with record():
        loss(x, torch.tensor([0, 1, 2]))
        with pytest.raises(ValueError, match="classes have no gradient"):
            loss.backward(target_gradient=True)


def test_weight_is_a_buffer_and_no_parameter() -> None:
    loss, twin = (cls(weight=torch.rand(3)) for cls in (NLLLoss, torch.nn.NLLLoss))
    assert list(loss.parameters()) == []
    assert list(loss.state_dict()) == list(twin.state_dict()) == ["weight"]
    assert repr(loss) == "NLLLoss(weight of 3 classes, ignore_index=-100, reduction='mean')"


def test_nll_compiles_in_one_graph() -> None:
    batches = [class_batch(((3, 5, 4), (3, 4))), class_batch(((6, 7, 2), (6, 2)))]
    assert_compiles(NLLLoss(), batches)
    assert_compiles(NLLLoss(reduction="none"), batches)
