"""A step over several micro-batches is the step with the one large batch, as PyTorch takes it."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from distributed_workers import Sentences, own_loop, train_sentences
from ds_core import (
    SGD,
    CrossEntropyLoss,
    Linear,
    MSELoss,
    Sequential,
    Trainer,
    compile_step,
    evaluate,
    whole_step,
)
from ds_core.data import Loader
from ds_core.errors import NonFiniteError
from ds_core.speed.compiled import has_compiler
from ds_core.training.gradients import backpropagate
from ds_core.training.nonfinite import first_nonfinite
from ds_core.training.stepper import Stepper
from several_processes import together
from squared_error import Squares
from torch import Tensor
from torch._dynamo.utils import counters

EXACT = {"rtol": 1e-12, "atol": 1e-14}
WEIGHT = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)


class Given:
    """Batches that are these pairs, over and over."""

    def __init__(self, *pairs: Any) -> None:
        self.pairs = pairs

    def batch(self, index: int) -> Any:
        return self.pairs[index % len(self.pairs)]


def build() -> Sequential:
    torch.manual_seed(0)
    return Sequential(Linear(4, 5), Linear(5, 3)).double()


def data(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (rows,), generator=generator)


def train(batches: Any, steps: int, criterion: Any, **options: Any) -> tuple[list[Tensor], list[float]]:
    model = build()
    trainer = Trainer(model, criterion, SGD(model.parameters(), lr=0.1), progress=False, **options)
    trainer.fit(batches, steps)
    return list(model.parameters()), [record["loss"] for record in trainer.history.training]


def twin(pairs: Any, loss: Any) -> tuple[list[Tensor], list[float]]:
    """One step of PyTorch's with each of these batches."""
    model, found = build(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, target in pairs:
        value = loss(model(x), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        found.append(value.item())
    return list(model.parameters()), found


def joined(*pairs: Any) -> tuple[Tensor, Tensor]:
    xs, targets = zip(*pairs, strict=True)
    return torch.cat(xs), torch.cat(targets)


@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_ragged_last_batches(clip_norm: float | None) -> None:
    """9 rows in batches of 4: two steps are 4 + 4 rows and 1 + 4, of which many targets are ignored."""
    x, target = data(9)
    target[torch.arange(9) % 3 == 1] = -100
    loader = Loader((x, target), 4, shuffle=False)
    batch = [loader.batch(index) for index in range(6)]
    pairs = [joined(*batch[0:2]), joined(*batch[2:4]), joined(*batch[4:6])]
    options = {"weight": WEIGHT, "label_smoothing": 0.1}
    weights, losses = train(loader, 3, CrossEntropyLoss(**options), accumulate=2, clip_norm=clip_norm)
    if clip_norm is None:
        expected, right = twin(pairs, torch.nn.CrossEntropyLoss(**options))
    else:
        expected, right = train(Given(*pairs), 3, CrossEntropyLoss(**options), clip_norm=clip_norm)
    torch.testing.assert_close(losses, right, **EXACT)
    torch.testing.assert_close(weights, expected, **EXACT)


def test_a_micro_batch_whose_targets_are_all_ignored() -> None:
    nothing = data(5)[0], torch.full((5,), -100)
    weights, losses = train(Given(data(3), nothing, data(2)), 2, CrossEntropyLoss(), accumulate=3)
    whole = joined(data(3), nothing, data(2))
    expected, right = twin([whole, whole], torch.nn.CrossEntropyLoss())
    torch.testing.assert_close(losses, right, **EXACT)
    torch.testing.assert_close(weights, expected, **EXACT)


def test_the_step_is_repeated_with_its_denominator() -> None:
    """The first micro-batch holds nothing, and its loss alone would be NaN; the second is at fault."""
    nothing, bad = (data(5)[0], torch.full((5,), -100)), (data(1)[0].sign() * 1e308, torch.tensor([1]))
    model = build()
    with torch.no_grad():
        model[0].weight[0] = bad[0].sign()  # 4 times 1e308
    found = first_nonfinite(model, CrossEntropyLoss(), [nothing, bad])
    assert found.startswith("the first layer whose output is not finite is 0 (")
    held = torch.tensor(1.0, dtype=torch.float64)
    found = first_nonfinite(model, CrossEntropyLoss(), [nothing], held)
    assert found == "repeated eagerly, every output and every gradient is finite"


def test_only_ignored_targets_stop_the_run_as_one_batch_does() -> None:
    nothing = data(5)[0], torch.full((5,), -100)
    for accumulate in (1, 2):
        with pytest.raises(NonFiniteError, match="the loss is nan"):
            train(Given(nothing), 1, CrossEntropyLoss(), accumulate=accumulate)


@pytest.mark.parametrize("criterion", [MSELoss(), MSELoss("sum"), Squares()], ids=["mean", "sum", "one's own"])
def test_rows_of_8_and_1(criterion: Any) -> None:
    pairs = [(data(rows)[0], data(rows)[0][:, :3]) for rows in (8, 1)]
    weights, losses = train(Given(*pairs), 2, criterion, accumulate=2)
    reduction = getattr(criterion, "reduction", "mean")
    expected, right = twin([joined(*pairs)] * 2, torch.nn.MSELoss(reduction=reduction))
    torch.testing.assert_close(losses, right, **EXACT)
    torch.testing.assert_close(weights, expected, **EXACT)


def test_one_micro_batch_asks_for_no_denominator() -> None:
    class Asked(CrossEntropyLoss):
        def denominator(self, target: Tensor) -> Tensor | None:
            raise AssertionError("asked")

    loss = backpropagate(build(), Asked(), [data(3)])
    assert loss.dtype == torch.float64
    with pytest.raises(AssertionError, match="asked"):
        backpropagate(build(), Asked(), [data(3), data(4)])


@pytest.mark.parametrize("sizes", [(3, 7), (10,), (4, 1, 5)])
def test_evaluation_is_that_of_one_batch(sizes: tuple[int, ...]) -> None:
    x, target = data(10)
    target[:4] = -100  # the whole first batch, in two of the cases
    pairs = list(zip(x.split(sizes), target.split(sizes), strict=True))
    model = build()
    criterion = CrossEntropyLoss(weight=WEIGHT)
    expected = torch.nn.functional.cross_entropy(model(x), target, WEIGHT).item()
    assert evaluate(model, pairs, criterion)["loss"] == pytest.approx(expected, rel=1e-12)
    total = torch.nn.functional.cross_entropy(model(x), target, WEIGHT, reduction="sum").item()
    assert evaluate(model, pairs, CrossEntropyLoss(WEIGHT, reduction="sum"))["loss"] == pytest.approx(total, rel=1e-12)
    nothing = [(x, torch.full_like(target, -100))]
    assert evaluate(model, nothing, criterion)["loss"] != evaluate(model, nothing, criterion)["loss"]  # NaN


def compiled_and_eager(make: Any) -> tuple[Any, Any]:
    model = build()
    other = copy.deepcopy(model)
    criterion = CrossEntropyLoss(weight=WEIGHT)
    return (
        (make(model, criterion, SGD(model.parameters(), lr=0.1)), model),
        (whole_step(other, criterion, SGD(other.parameters(), lr=0.1)), other),
    )


@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")
def test_unequal_micro_batches_are_one_compiled_graph() -> None:
    """What is ignored changes from step to step, and the graph is the same."""
    torch._dynamo.reset()
    counters.clear()
    (step, model), (eager, other) = compiled_and_eager(compile_step)
    for index in range(4):
        x, target = data(8)
        target[: 2 * index] = -100  # in the last steps all of the first micro-batch
        pairs = [(x[:5], target[:5]), (x[5:], target[5:])]
        loss, _ = step(pairs)
        expected, _ = eager(pairs)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-14)
        assert loss.isfinite()
    torch.testing.assert_close(list(model.parameters()), list(other.parameters()), rtol=1e-11, atol=1e-13)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_with_unequal_tokens(tmp_path: Any, world_size: int, accumulate: int) -> None:
    weights, losses = train_sentences(accumulate)
    for theirs, their_losses in together(world_size, train_sentences, accumulate, folder=tmp_path):
        torch.testing.assert_close(theirs, weights, **EXACT)
        torch.testing.assert_close(their_losses, losses, **EXACT)


def test_processes_with_unequal_tokens_compiled(tmp_path: Any) -> None:
    weights, losses = train_sentences(2)
    for theirs, their_losses in together(2, train_sentences, 2, True, folder=tmp_path, timeout=120):
        torch.testing.assert_close(theirs, weights, **EXACT)
        torch.testing.assert_close(their_losses, losses, **EXACT)


def test_a_loop_of_ones_own_divides_by_what_all_hold(tmp_path: Any) -> None:
    weights = own_loop()
    for theirs in together(2, own_loop, folder=tmp_path):
        torch.testing.assert_close(theirs, weights, **EXACT)


def test_sentences_are_the_twins() -> None:
    """What the processes are held against: one process with PyTorch's loss of the joined batches."""
    weights, losses = train_sentences(2)
    model, right = Sentences.build(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(3):
        tokens, target = joined(*(Sentences().batch(index) for index in (2 * step, 2 * step + 1)))
        logits = model(tokens).reshape(-1, Sentences.VOCABULARY)
        value = torch.nn.functional.cross_entropy(logits, target.reshape(-1), ignore_index=0)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        right.append(value.item())
    torch.testing.assert_close(losses, right, **EXACT)
    torch.testing.assert_close(weights, {name: t.detach() for name, t in model.state_dict().items()}, **EXACT)


def test_a_process_without_rows_does_no_forward_pass() -> None:
    """But for rank 0, which has none only where nobody has."""
    full, empty = data(3), (data(3)[0][:0], data(3)[1][:0])
    for first, expected in ((False, [full]), (True, [full, empty])):
        parallel = SimpleNamespace(processes=SimpleNamespace(world_size=2, first=first), total=lambda value: 2 * value)
        model = build()
        stepper = Stepper(model, CrossEntropyLoss(), SGD(model.parameters(), lr=0.1), parallel=parallel)
        own, denominator = stepper._own([full, empty])
        assert len(own) == len(expected)
        assert all(pair is right for pair, right in zip(own, expected, strict=True))
        assert denominator == 2 * 3
