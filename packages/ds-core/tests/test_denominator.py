"""Parts of a batch, each counted by what it holds, are the one large batch: for every loss, against PyTorch's."""

import copy
from typing import Any, NamedTuple

import pytest
import torch
from ds_core import (
    BCELoss,
    BCEWithLogitsLoss,
    ClassifierLoss,
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    HingeEmbeddingLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MarginRankingLoss,
    MSELoss,
    MultiMarginLoss,
    NLLLoss,
    PerceptronLoss,
    ShapeError,
    SmoothL1Loss,
    SoftMarginLoss,
    TokenCrossEntropy,
    WeightedSum,
    record,
)
from ds_core.losses.denominator import backward_part, denominator_of, forward_part, rows_of, total
from ds_core.losses.pointwise import ErrorLoss, PointwiseLoss
from ds_core.testing import one_graph
from loss_engines import loss_classes
from squared_error import Squares
from torch import Tensor

ROWS, IGNORED = 7, -100
EXACT = {"rtol": 1e-12, "atol": 1e-15}
SPLITS = [(1, 6), (4, 3), (2, 1, 4), (0, 7), (3, 0, 4)]


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(*shape: int, count: int = 4) -> Tensor:
    return torch.randint(count, (ROWS, *shape), generator=torch.Generator().manual_seed(1))


def some_ignored(*shape: int, index: int = IGNORED) -> Tensor:
    """Of the first three rows all, so that a part of them holds nothing; of the others some."""
    target = classes(*shape)
    target[:3], target[5] = index, index
    return target


X, Y, SIGNS = draws(4), draws(4, seed=1), draws(4, seed=2).sign()
ONE_SIGN = draws(seed=3).sign()
WEIGHT = torch.tensor([0.3, 1.0, 2.5, 0.0], dtype=torch.float64)
SHIFTED = draws(4).sigmoid()
LOGS = draws(4).log_softmax(1)


class Case(NamedTuple):
    loss: Any
    twin: Any
    predictions: tuple[Tensor, ...]
    target: Tensor


def of(cls: type, *inputs: Tensor, twin: Any = None, **options: Any) -> Case:
    twin = getattr(torch.nn, cls.__name__)(**options) if twin is None else twin
    return Case(cls(**options), twin, inputs[:-1], inputs[-1])


def token_twin(logits: Tensor, target: Tensor) -> Tensor:
    flat = (logits.reshape(-1, logits.shape[-1]), target.reshape(-1))
    return torch.nn.functional.cross_entropy(*flat, ignore_index=0, label_smoothing=0.1)


CASES = [
    of(MSELoss, X, Y),
    of(L1Loss, X, Y),
    of(SmoothL1Loss, X, Y, beta=0.5),
    of(HuberLoss, X, Y, delta=0.5),
    of(BCELoss, SHIFTED, draws(4, seed=4).sigmoid(), weight=torch.tensor([0.5, 1, 2, 3])),
    of(BCEWithLogitsLoss, X, Y.sigmoid(), pos_weight=torch.tensor([0.5, 1, 2, 3])),
    of(KLDivLoss, LOGS, Y.softmax(1)),
    of(KLDivLoss, LOGS, Y.log_softmax(1), reduction="batchmean", log_target=True),
    of(HingeEmbeddingLoss, X, SIGNS, margin=0.5),
    of(SoftMarginLoss, X, SIGNS),
    of(SoftMarginLoss, X, SIGNS[:, :1]),  # the target is broadcast, and the mean is over the input's elements
    of(PerceptronLoss, X, SIGNS, twin=lambda x, target: (-target * x).clamp_min(0).mean()),
    of(MarginRankingLoss, X, Y, SIGNS, margin=0.5),
    of(MarginRankingLoss, X, Y, SIGNS[:, :1], margin=0.5),
    of(CosineEmbeddingLoss, X, Y, ONE_SIGN, margin=0.2),
    of(MultiMarginLoss, X, classes(), p=2, weight=WEIGHT),
    of(NLLLoss, LOGS, classes()),
    of(NLLLoss, LOGS, some_ignored(), weight=WEIGHT),
    of(CrossEntropyLoss, X, classes()),
    of(CrossEntropyLoss, X, classes(), weight=WEIGHT),
    of(CrossEntropyLoss, draws(4, 5), some_ignored(5), weight=WEIGHT, label_smoothing=0.2),
    of(CrossEntropyLoss, X, some_ignored(index=2), ignore_index=2),
    of(CrossEntropyLoss, draws(4, 5), draws(4, 5, seed=1).softmax(1), weight=WEIGHT, label_smoothing=0.1),
    Case(TokenCrossEntropy(0, label_smoothing=0.1), token_twin, (draws(5, 4),), some_ignored(5, index=0)),
]
NAMES = [f"{case.loss!r} {tuple(case.target.shape)}" for case in CASES]


def parts_of(case: Case, sizes: tuple[int, ...]) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    columns = [tensor.split(sizes) for tensor in (*case.predictions, case.target)]
    return [(tuple(part[:-1]), part[-1]) for part in zip(*columns, strict=True)]


def by_hand(loss: Any, parts: Any, grad: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
    """The loss of all parts together, and the gradients of the predictions, joined."""
    denominator = total([denominator_of(loss, given, target) for given, target in parts])
    values, gradients = [], []
    for given, target in parts:
        with record():
            value = forward_part(loss, given, given, target, denominator)
            found = backward_part(loss, grad, given, target, denominator, value)
        values.append(value)
        gradients.append(found if isinstance(found, tuple) else (found,))
    return torch.stack(values).sum(), [torch.cat(each) for each in zip(*gradients, strict=True)]


def expected_of(case: Case) -> tuple[Tensor, list[Tensor]]:
    """What PyTorch's loss of the one large batch and its gradients are."""
    given = [tensor.clone().requires_grad_() for tensor in case.predictions]
    value = case.twin(*given, case.target)
    value.backward()
    return value.detach(), [tensor.grad for tensor in given if tensor.grad is not None]


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_parts_are_the_one_large_batch(case: Case, sizes: tuple[int, ...]) -> None:
    value, gradients = expected_of(case)
    found, found_gradients = by_hand(case.loss, parts_of(case, sizes))
    torch.testing.assert_close(found, value, **EXACT)
    torch.testing.assert_close(found_gradients, gradients, **EXACT)
    scaled = by_hand(case.loss, parts_of(case, sizes), torch.tensor(0.3, dtype=torch.float64))[1]
    torch.testing.assert_close(scaled, [0.3 * gradient for gradient in gradients], **EXACT)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_autograd_of_a_part(case: Case) -> None:
    _, gradients = expected_of(case)
    leaves = case._replace(predictions=tuple(tensor.clone().requires_grad_() for tensor in case.predictions))
    parts = parts_of(leaves, (3, 4))
    denominator = total([denominator_of(case.loss, *part) for part in parts])
    torch.stack([case.loss(*given, target, denominator=denominator) for given, target in parts]).sum().backward()
    torch.testing.assert_close([tensor.grad for tensor in leaves.predictions], gradients, **EXACT)


@pytest.mark.parametrize(
    "case", [case for case in CASES if hasattr(case.loss, "reduction")], ids=lambda case: repr(case.loss)
)
def test_a_sum_is_added_up(case: Case) -> None:
    loss = copy.copy(case.loss)
    loss.reduction = "sum"
    assert loss.denominator(case.target) is None
    found, gradients = by_hand(loss, parts_of(case, (3, 4)))
    whole, expected = by_hand(loss, parts_of(case, (7,)))
    torch.testing.assert_close(found, whole, **EXACT)
    torch.testing.assert_close(gradients, expected, **EXACT)


def test_every_loss_is_in_the_table() -> None:
    # bases, a sum of losses, and a choice among those of the table: test_classifier_loss.py has its parts
    others = {WeightedSum, ClassifierLoss, PointwiseLoss, ErrorLoss}
    assert loss_classes() == {type(case.loss) for case in CASES} | others
    assert {cls for cls in loss_classes() if not callable(getattr(cls, "denominator", None))} == set()


def test_worked_example() -> None:
    """2 micro-batches of 2 tokens, of which the first has one that is ignored."""
    logits = torch.tensor([[0.0, 1.0986], [0.0, 0.0]]), torch.tensor([[1.3863, 0.0], [0.0, 1.0986]])
    targets = torch.tensor([1, IGNORED]), torch.tensor([1, 1])
    loss = CrossEntropyLoss()
    held = [float(loss.denominator(target)) for target in targets]
    assert (held, sum(held)) == ([1, 2], 3)
    means = [float(loss(*part)) for part in zip(logits, targets, strict=True)]
    assert means == pytest.approx([0.2877, 0.9486], abs=6e-5)
    shares = [float(loss(*part, denominator=torch.tensor(3.0))) for part in zip(logits, targets, strict=True)]
    assert shares == pytest.approx([0.0959, 0.6324], abs=6e-5)
    whole = loss(torch.cat(logits), torch.cat(targets))
    assert [float(whole), sum(shares)] == pytest.approx([0.7283, 0.7283], abs=6e-5)
    assert sum(means) / 2 == pytest.approx(0.6181, abs=6e-5)
    value, (gradient,) = by_hand(loss, [((x,), target) for x, target in zip(logits, targets, strict=True)])
    assert float(value) == pytest.approx(0.7283, abs=6e-5)
    expected = [[0.0833, -0.0833], [0, 0], [0.2667, -0.2667], [0.0833, -0.0833]]
    torch.testing.assert_close(gradient, torch.tensor(expected), rtol=0, atol=5e-5)


@pytest.mark.parametrize("cls", [CrossEntropyLoss, NLLLoss])
def test_nothing_in_any_part_is_what_one_batch_gives(cls: type) -> None:
    target = torch.full((ROWS,), IGNORED)
    found, (gradient,) = by_hand(cls(), [((X[:3],), target[:3]), ((X[3:],), target[3:])])
    assert found.isnan()
    assert torch.nn.CrossEntropyLoss()(X, target).isnan()
    whole, (expected,) = by_hand(cls(), [((X,), target)])
    assert whole.isnan()
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize(
    ("loss", "x", "target"),
    [
        (MSELoss(), X[:3], Y[0]),
        (MSELoss(), X[:3], Y[:1]),
        (SoftMarginLoss(), X[:3], SIGNS[:1]),
        (KLDivLoss("batchmean"), LOGS[:1], Y[:3].softmax(1)),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*broadcast:UserWarning")
def test_a_target_that_does_not_say_how_many_rows_there_are(loss: Any, x: Tensor, target: Tensor) -> None:
    assert loss(x, target).isfinite()
    with pytest.raises(ShapeError, match=r"expected as many rows.*counted by their targets"):
        loss(x, target, denominator=loss.denominator(target))


def test_a_class_that_is_none_is_named_before_its_weight_is_looked_up() -> None:
    with pytest.raises(IndexError, match=r"CrossEntropyLoss.*given the target 4, expected 0 \.\.\. 3"):
        CrossEntropyLoss(weight=WEIGHT).denominator(torch.tensor([4]))


def test_parts_of_a_weighted_sum_have_denominators_of_their_own() -> None:
    criterion = WeightedSum(
        {"class": (0.5, CrossEntropyLoss(weight=WEIGHT)), "box": (2.0, L1Loss()), "all": (0.1, MSELoss("sum"))},
        reads={"box": "y", "all": "y", "class": "x"},
    )
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    target = some_ignored()
    functional = torch.nn.functional
    expected = 0.5 * functional.cross_entropy(x, target, WEIGHT) + 2 * functional.l1_loss(y, SIGNS)
    expected = expected + 0.1 * functional.mse_loss(y, SIGNS, reduction="sum")
    expected.backward()
    for sizes in SPLITS:
        pairs = zip(*[tensor.split(sizes) for tensor in (X, Y, target, SIGNS)], strict=True)
        parts = [({"x": a, "y": b}, {"x": c, "y": d}) for a, b, c, d in pairs]
        denominator = total([denominator_of(criterion, *part) for part in parts])
        assert list(denominator) == ["class", "box", "all"]
        assert denominator["all"] is None
        found, gradients = torch.zeros(()).double(), []
        for part in parts:
            with record():
                found += criterion(*part, denominator=denominator)
                gradients.append(criterion.backward())
        torch.testing.assert_close(found, expected.detach(), **EXACT)
        torch.testing.assert_close(torch.cat([each["x"] for each in gradients]), x.grad, **EXACT)
        torch.testing.assert_close(torch.cat([each["y"] for each in gradients]), y.grad, **EXACT)


@pytest.mark.parametrize("criterion", [Squares(), WeightedSum({"own": (3.0, Squares())})], ids=["alone", "in a sum"])
def test_a_loss_that_says_nothing_counts_by_rows(criterion: Any) -> None:
    x = X.clone().requires_grad_()
    expected = torch.nn.functional.mse_loss(x, Y) * (1 if isinstance(criterion, Squares) else 3)
    expected.backward()
    for sizes in SPLITS:
        parts = [((a,), b) for a, b in zip(X.split(sizes), Y.split(sizes), strict=True)]
        found, (gradient,) = by_hand(criterion, parts)
        torch.testing.assert_close(found, expected.detach(), **EXACT)
        torch.testing.assert_close(gradient, x.grad, **EXACT)
    half, _ = by_hand(Squares(), [((X.bfloat16(),), Y.bfloat16())] * 2)
    assert half.dtype == torch.bfloat16


def test_rows() -> None:
    assert rows_of(({"mask": None, "name": "a"}, torch.zeros(()), [torch.zeros(5, 2)] * 3)) == 3
    assert rows_of((torch.zeros(()), torch.zeros(4, 2), torch.zeros(9))) == 4
    assert rows_of((None, 1.5)) is None
    assert [
        float(denominator_of(None, *pair)) for pair in [(1.0, torch.zeros(2)), (torch.zeros(0), None), ((), 3)]
    ] == [
        2,
        0,
        1,
    ]


def test_half_precision_is_divided_in_float32() -> None:
    x, target = torch.randn(300, 4).bfloat16(), torch.randint(4, (300,))
    denominator = torch.tensor(300.0, dtype=torch.float64)
    with record():
        loss = CrossEntropyLoss()
        value, gradient = loss(x, target, denominator=denominator), loss.backward()
        assert (value.dtype, gradient.dtype) == (torch.bfloat16, torch.bfloat16)
        same, also = loss(x, target), loss.backward()
    assert torch.equal(value, same)
    assert torch.equal(gradient, also)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if type(case.loss) in (MSELoss, NLLLoss, CrossEntropyLoss, KLDivLoss, MarginRankingLoss)],
    ids=lambda case: repr(case.loss),
)
def test_parts_compile_in_one_graph(case: Case) -> None:
    def step(parts: Any) -> Any:
        denominator = total([denominator_of(case.loss, *part) for part in parts])
        found = []
        for given, target in parts:
            with record():
                value = forward_part(case.loss, given, given, target, denominator)
                found.append((value, backward_part(case.loss, None, given, target, denominator, value)))
        return found

    compiled = one_graph(step, dynamic=True)
    for sizes in [(2, 5), (3, 4)]:
        parts = parts_of(case, sizes)
        torch.testing.assert_close(compiled(parts), step(parts))
