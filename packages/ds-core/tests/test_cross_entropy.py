"""CrossEntropyLoss with targets that are classes: against PyTorch, autograd, finite differences and by hand."""

import itertools

import pytest
import torch
from ds_core import CrossEntropyLoss, ShapeError, record
from ds_core.interop import as_torch
from ds_core.losses.cross_entropy import cross_entropy, cross_entropy_backward
from ds_core.testing import check_loss, check_twin, check_twin_grid, one_graph

Shapes = tuple[tuple[int, ...], tuple[int, ...]]
SHAPES: list[Shapes] = [((6, 5), (6,)), ((5,), ()), ((3, 5, 4), (3, 4)), ((2, 5, 3, 2), (2, 3, 2))]


def class_batch(shapes: Shapes, ignored: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    logits, target = 3 * torch.randn(shapes[0]), torch.randint(0, 5, shapes[1])
    if ignored is not None and target.dim() > 0:
        target[0] = ignored
    return logits, target


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_right(shapes: Shapes, reduction: str, label_smoothing: float, weighted: bool) -> None:
    arguments = {
        "weight": torch.rand(5) + 0.1 if weighted else None,
        "reduction": reduction,
        "label_smoothing": label_smoothing,
    }
    batch = class_batch(shapes, ignored=-100)
    batch_dim = 0 if len(shapes[1]) > 0 else None
    ours, twin = CrossEntropyLoss(**arguments), torch.nn.CrossEntropyLoss(**arguments)
    check_loss(ours, *batch, twin=twin, samples=6, batch_dim=batch_dim)


def test_cross_entropy_is_the_twin_whatever_is_ignored() -> None:
    grid = {
        "weight": [None, torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0])],
        "ignore_index": [-100, -1, 2],
        "reduction": ["mean", "sum", "none"],
        "label_smoothing": [0.0, 0.1, 1.0],
    }

    logits = torch.randn(4, 5, 3)
    for ignored in (-100, -1, 2):
        target = torch.randint(0, 5, (4, 3))
        target[1] = ignored
        only = {**grid, "ignore_index": [ignored]}
        assert check_twin_grid(CrossEntropyLoss, torch.nn.CrossEntropyLoss, only, [logits, target]) == 18


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [3, 0])
def test_nothing_to_average_gives_nan_and_no_gradient_as_in_the_twin(
    weighted: bool, label_smoothing: float, rows: int
) -> None:
    arguments = {"weight": torch.rand(5) if weighted else None, "label_smoothing": label_smoothing}
    target = torch.full((rows,), -100)
    ours = CrossEntropyLoss(**arguments)
    logits, leaf, twin = (torch.randn(rows, 5).requires_grad_(i > 0) for i in range(3))
    torch.nn.functional.cross_entropy(twin, target, **arguments).backward()
    ours(leaf, target).backward()
    with record():
        loss = ours(logits, target)
        dx = ours.backward()
    assert loss.isnan()
    for gradient in (dx, leaf.grad, twin.grad):
        assert torch.equal(gradient, torch.zeros(rows, 5))


def test_worked_example() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0986, 0.0]])  # softmax: (1/2, 1/2), (3/4, 1/4)
    target = torch.tensor([1, 0])
    weight = torch.tensor([1.0, 3.0])
    nothing = torch.tensor([False, False])
    losses, shares, exps, sums = cross_entropy(x, target, nothing, weight, 0.0)
    torch.testing.assert_close(losses, torch.tensor([2.0794, 0.2877]), rtol=0, atol=5e-5)
    assert [float(losses.sum()), float(shares.sum())] == pytest.approx([2.3671, 4.0], abs=5e-5)
    torch.testing.assert_close(losses.sum() / shares.sum(), torch.tensor(0.5918), rtol=0, atol=5e-5)
    dlosses = 1 / shares.sum()
    assert dlosses == 0.25
    dx = cross_entropy_backward(dlosses, exps, sums, shares, target, nothing, weight, 0.0)
    torch.testing.assert_close(dx, torch.tensor([[0.375, -0.375], [-0.0625, 0.0625]]), rtol=0, atol=5e-5)

    losses, shares, exps, sums = cross_entropy(x, target, nothing, None, 0.2)
    torch.testing.assert_close(losses, torch.tensor([0.6931, 0.3975]), rtol=0, atol=5e-5)
    assert float(losses[1]) == pytest.approx(0.8 * 0.2877 + 0.1 * (0.2877 + 1.3863), abs=5e-5)
    torch.testing.assert_close(losses.mean(), torch.tensor(0.5453), rtol=0, atol=5e-5)
    dx = cross_entropy_backward(torch.tensor(0.5), exps, sums, shares, target, nothing, None, 0.2)
    torch.testing.assert_close(dx, torch.tensor([[0.2, -0.2], [-0.075, 0.075]]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_at_extremes_in_both_engines(dtype: torch.dtype, label_smoothing: float) -> None:
    inf = float("inf")
    x = torch.tensor(
        [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0], [-1e4, -1e4, -1e4], [3.0, -inf, 4.0], [-inf, 1.0, -inf]],
        dtype=dtype,
    )
    target = torch.tensor([1, 0, 2, 1, 2, 1])
    for i, reduction in itertools.product(range(len(x)), ["sum", "none"]):
        logits, classes = x[i : i + 1], target[i : i + 1]
        ours = CrossEntropyLoss(reduction=reduction, label_smoothing=label_smoothing)
        leaf, twin = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        expected = torch.nn.functional.cross_entropy(
            twin, classes, reduction=reduction, label_smoothing=label_smoothing
        )
        expected.sum().backward()
        ours(leaf, classes).sum().backward()
        with record():
            loss = ours(logits, classes)
            dx = ours.backward()
        torch.testing.assert_close(loss, expected.detach(), equal_nan=True)
        torch.testing.assert_close(dx, twin.grad)
        if expected.isfinite().all():
            torch.testing.assert_close(leaf.grad, twin.grad)


def test_a_row_of_minus_infinity_is_nan_as_in_the_twin() -> None:
    x = torch.tensor([[float("-inf")] * 3, [0.0, 1.0, 2.0]])
    check_twin(CrossEntropyLoss(reduction="none"), torch.nn.CrossEntropyLoss(reduction="none"), x, torch.tensor([0, 1]))


@pytest.mark.parametrize("target", [torch.tensor([0, -100, 4, 2]), torch.tensor([0.1, 0.2, 0.3, 0.4])])
def test_cross_entropy_in_bfloat16_sums_in_float32(target: torch.Tensor) -> None:
    x = torch.randn(4, 3000).bfloat16()
    if target.is_floating_point():
        target = torch.rand(4, 3000).bfloat16() / 1500
    ours = CrossEntropyLoss()
    twin = x.clone().requires_grad_()
    expected = torch.nn.functional.cross_entropy(twin, target)
    expected.backward()
    with record():
        loss = ours(x, target)
        dx = ours.backward()
    assert (loss.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(loss, expected.detach(), rtol=2e-2, atol=0)
    torch.testing.assert_close(dx, twin.grad, rtol=3e-2, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_classes_may_be_any_integers(dtype: torch.dtype) -> None:
    x, target = class_batch(SHAPES[0])
    loss = CrossEntropyLoss()
    torch.testing.assert_close(loss(x, target.to(dtype)), torch.nn.functional.cross_entropy(x, target))


def test_cross_entropy_says_what_is_wrong() -> None:
    x = torch.randn(3, 5)
    with pytest.raises(ValueError, match="reduction='average', expected"):
        CrossEntropyLoss(reduction="average")
    for smoothing in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"label_smoothing={smoothing}, expected 0 ... 1"):
            CrossEntropyLoss(label_smoothing=smoothing)
    loss = CrossEntropyLoss()
    for target in (torch.tensor([0, 1]), torch.tensor([0.0, 1.0, 2.0]), torch.zeros(3, 4, dtype=torch.long)):
        with pytest.raises(ShapeError, match=r"given input \(3, 5\) and target .* expected a target \(3,\) of classes"):
            loss(x, target)
    with pytest.raises(ShapeError, match=r"given input \(\) and target \(1,\)"):
        loss(torch.tensor(1.0), torch.tensor([0]))
    with pytest.raises(ShapeError, match=r"holds probabilities, given torch\.int64"):
        loss(x, torch.zeros(3, 5, dtype=torch.long))
    with pytest.raises(ShapeError, match=r"weight of shape \(4,\), expected \(5,\)"):
        CrossEntropyLoss(weight=torch.ones(4))(x, torch.tensor([0, 1, 2]))
    for wrong in (5, -1):
        with pytest.raises(IndexError, match=rf"CrossEntropyLoss.*given the target {wrong}, expected 0 ... 4"):
            loss(x, torch.tensor([0, wrong, -100]))


def test_classes_have_no_gradient() -> None:
    loss = CrossEntropyLoss()
    with record():
        loss(torch.randn(3, 5), torch.tensor([0, 1, 2]))
        with pytest.raises(ValueError, match="classes have no gradient"):
            loss.backward(target_gradient=True)


def test_weight_is_a_buffer_and_no_parameter() -> None:
    loss, twin = (cls(weight=torch.rand(3)) for cls in (CrossEntropyLoss, torch.nn.CrossEntropyLoss))
    assert list(loss.parameters()) == []
    assert list(loss.state_dict()) == list(twin.state_dict()) == ["weight"]
    assert list(CrossEntropyLoss().state_dict()) == []


def test_one_buffer_of_the_size_of_the_logits_is_kept_and_becomes_the_gradient() -> None:
    loss, x = CrossEntropyLoss(), torch.randn(10, 20)
    with record() as trace:
        loss(x, torch.randint(0, 20, (10,)))
        (kept,) = trace.kept()
        buffer = trace.entries[0].saved[0]
        assert kept.bytes == 10 * 20 * 4
        assert loss.backward() is buffer
        loss(x, torch.randint(0, 20, (10,)))
        assert loss.backward(torch.tensor(0.5)) is not buffer


def test_backward_twice_through_the_bridge_gives_the_same() -> None:
    loss = as_torch(CrossEntropyLoss())
    x = torch.randn(4, 5, requires_grad=True)
    value = 3 * loss(x, torch.tensor([0, 1, 2, 3]))
    first = torch.autograd.grad(value, x, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(value, x)[0], first)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_cross_entropy_compiles_in_one_graph(label_smoothing: float) -> None:
    criterion = CrossEntropyLoss(label_smoothing=label_smoothing)

    def step(x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with record():
            loss = criterion(x, target)
            return loss, criterion.backward(torch.full_like(loss, 0.5))

    compiled = one_graph(step, dynamic=True)
    for shapes in (((3, 5, 4), (3, 4)), ((6, 7, 2), (6, 2))):
        batch = class_batch(shapes, ignored=-100)
        torch.testing.assert_close(compiled(*batch), step(*batch))
