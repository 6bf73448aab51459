"""A model used, not trained: its outputs, its mean loss and its metrics over data that comes in batches."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ds_core.engine.nested_values import leaves, map_leaves
from ds_core.engine.trace import no_record
from ds_core.losses.denominator import denominator_of, rows_denominator
from ds_core.training.gradients import call


class Metric(Protocol):
    """What `ds_core.metrics` offers, gathered over batches."""

    def reset(self) -> None: ...

    def update(self, output: Any, target: Any, /) -> None: ...

    def compute(self) -> Any: ...


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Inside, `model` is in evaluation mode and nothing is recorded; afterwards each module's mode is what it was."""
    modes = [(module, getattr(module, "training", True)) for module in model.modules()]
    try:
        with no_record():
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate(
    model: Any,
    batches: Iterable[tuple[Any, ...]],
    criterion: Any = None,
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, Any]:
    """The loss over all batches as if they were one, and each metric, of `model` in evaluation mode.

    As a Trainer's `evaluate`: `lambda model: evaluate(model, loader, criterion, {"accuracy": Accuracy()})`.

    Args:
        model: a `Module`.
        batches: pairs (inputs, target), inputs that are a tuple being several arguments; such as a `Loader`.
        criterion: a loss. Its batch means count by what the batches hold: docs/denominator.md. Those of a loss with
            several denominators (`WeightedSum`) count by rows.
        metrics: by name; they are reset first.

    Returns:
        "loss", where there is a criterion, and the metrics' values by name.

    Raises:
        ValueError: there is no batch, or a metric is called "loss".
    """
    metrics = {} if metrics is None else metrics
    if "loss" in metrics and criterion is not None:
        raise ValueError("evaluate: a metric is called loss, which is the criterion's name")
    for metric in metrics.values():
        metric.reset()
    loss, count = _Loss(criterion), 0
    with evaluation_mode(model):
        for inputs, target in batches:
            count += 1
            output = call(model, inputs)
            if criterion is not None:
                loss.update(inputs, output, target)
            for metric in metrics.values():
                metric.update(output, target)
    if count == 0:
        raise ValueError("evaluate: given no batch, expected at least one")
    values = {name: metric.compute() for name, metric in metrics.items()}
    return values if criterion is None else {"loss": loss.compute(), **values}


def predict(model: Any, batches: Iterable[Any]) -> Any:
    """The outputs of `model` in evaluation mode for every batch of inputs, joined along the first dimension.

    Args:
        model: a `Module`.
        batches: inputs, a tuple being several arguments: `(inputs for inputs, _ in loader)`, or `x.split(512)`.

    Returns:
        What the model returns, a tensor or a structure of them.

    Raises:
        ValueError: there is no batch.
    """
    with evaluation_mode(model):
        outputs = [call(model, inputs) for inputs in batches]
    if not outputs:
        raise ValueError("predict: given no batch, expected at least one")
    return _joined(outputs)


def _joined(outputs: list[Any]) -> Any:
    parts = zip(*[list(leaves(output)) for output in outputs], strict=True)
    whole = iter([None if same[0] is None else torch.cat(same) for same in parts])
    return map_leaves(lambda _: next(whole), outputs[0])


class _Loss:
    """The loss of all batches from those of each."""

    def __init__(self, criterion: Any) -> None:
        self._criterion = criterion
        self._total = 0.0
        self._held: float | None = None

    def update(self, inputs: Any, output: Any, target: Any) -> None:
        held = denominator_of(self._criterion, inputs, target)
        if held is not None and not isinstance(held, Tensor):
            held = rows_denominator(inputs, target)
        count = 1.0 if held is None else float(held)
        if count != 0:  # the mean over nothing is NaN
            self._total += float(self._criterion.forward(output, target)) * count  # D_m L_m = S_m
        if held is not None:
            self._held = (self._held or 0.0) + count

    def compute(self) -> float:
        if self._held is None:  # nothing is divided by anything, so losses add up
            return self._total
        return self._total / self._held if self._held else math.nan
