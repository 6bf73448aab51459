"""A model used, not trained: its outputs, its mean loss and its metrics over data that comes in batches."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from ds_core.engine.nested_values import leaves, map_leaves
from ds_core.engine.trace import no_record
from ds_core.metrics.mean import Mean
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
    """The mean loss over all rows, and each metric, of `model` in evaluation mode.

    As a Trainer's `evaluate`: `lambda model: evaluate(model, loader, criterion, {"accuracy": Accuracy()})`.

    Args:
        model: a `Module`.
        batches: pairs (inputs, target), inputs that are a tuple being several arguments; such as a `Loader`.
        criterion: a loss whose batch means are weighted by the rows of the target. A loss that is no mean over rows
            (weights, ignored targets) has its mean over batches only.
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
    loss, count = Mean(), 0
    with evaluation_mode(model):
        for inputs, target in batches:
            count += 1
            output = call(model, inputs)
            if criterion is not None:
                loss.update(criterion.forward(output, target), _rows(target))
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


def _rows(target: Any) -> int:
    first = next(leaves(target))
    return int(first.shape[0]) if first.dim() > 0 else 1
