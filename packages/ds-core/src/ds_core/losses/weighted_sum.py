"""A weighted sum of losses, of one prediction or of several. Theory: docs/weighted_sum.md."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.nested_values import rebuild
from ds_core.losses.denominator import add_nested, backward_part, denominator_of, forward_part


class WeightedSum(Module):
    """The sum of weight * loss over named parts.

        criterion = WeightedSum(
            {"class": (1.0, CrossEntropyLoss()), "l1": (5.0, L1Loss()), "overlap": (2.0, overlap)},
            reads={"class": "logits", "l1": "boxes", "overlap": "boxes"},
        )
        loss = criterion({"logits": ..., "boxes": ...}, {"logits": classes, "boxes": ...})
        criterion.parts["l1"]       # that part's own value, without its weight
        criterion.backward()        # {"logits": ..., "boxes": ...}

    Predictions that are a dict or a tuple have one item for each part, found by what the part reads; anything else
    goes to every part. So with targets. A part whose predictions are a tuple is called with them one by one.

    Args:
        parts: by name, a weight and a loss; the losses are called in this order. Their outputs are added, so with
            reduction "none" they have one shape.
        reads: by name of a part, the key (or index) of its predictions and of its targets. By default its own name,
            in a tuple its position.

    Attributes:
        weights: the weight of each part by name, a number or a tensor (); may be changed between steps.
        losses: the loss of each part by name.
        parts: the value of each part in the last forward, without its weight and without a gradient.

    Raises:
        ValueError: no parts, or `reads` for a part that is not there.
        KeyError: from `forward`, where a dict or tuple has no item for a part.
    """

    def __init__(self, parts: Mapping[str, tuple[float, Any]], reads: Mapping[str, Any] | None = None) -> None:
        if len(parts) == 0:
            raise ValueError("WeightedSum: given no parts, expected at least one")
        unknown = [name for name in reads or {} if name not in parts]
        if unknown:
            raise ValueError(f"WeightedSum: reads is given for {unknown}, expected some of the parts {list(parts)}")
        self.weights = {name: weight for name, (weight, _) in parts.items()}
        self.losses = {name: loss for name, (_, loss) in parts.items()}
        self.reads = dict(reads or {})
        self.parts: dict[str, Tensor] = {}

    def denominator(self, targets: Any) -> dict[str, Any]:
        """By name, what each part divides by: see `denominator_of`, which counts the targets here."""
        each = {name: self._item(targets, name) for name in self.losses}
        return {name: denominator_of(loss, each[name], each[name]) for name, loss in self.losses.items()}

    def forward(self, predictions: Any, targets: Any, *, denominator: Mapping[str, Any] | None = None) -> Tensor:
        """Predictions and targets, the same for all parts or one for each -> the sum, of the shape of the parts'.

        `denominator`, where this is a part of a larger batch, holds those of the whole by name.
        """
        values: dict[str, Tensor] = {}
        divided_by = dict.fromkeys(self.losses) if denominator is None else dict(denominator)
        total: Tensor | None = None
        for name, loss in self.losses.items():
            prediction, target = self._item(predictions, name), self._item(targets, name)
            given = prediction if isinstance(prediction, tuple) else (prediction,)
            values[name] = forward_part(loss, given, target, target, divided_by[name])
            weighted = values[name] * self.weights[name]
            total = weighted if total is None else total + weighted  # L = sum_k w_k L_k                    (1)
        assert total is not None
        self.parts = {name: value.detach() for name, value in values.items()}
        self.save(predictions, targets, dict(self.weights), self.parts, divided_by)
        return total

    def backward(self, grad: Tensor | None = None, *, target_gradient: bool = False) -> Any:
        """grad of the shape of the loss, None for 1 -> gradients in the structure of the predictions, None for what
        no part reads; with `target_gradient` a pair of that and the same of the targets, None where the targets of
        a part are not floating.

        Raises:
            ValueError: `target_gradient` where a part has floating targets and gives no gradient for them.
        """
        predictions, targets, weights, values, divided_by = self.saved()
        dpredictions, dtargets = _Gradients(predictions), _Gradients(targets)
        for name, loss in reversed(self.losses.items()):
            value = values[name]
            # dL_k = dL w_k                                                                                 (2)
            dvalue = (torch.ones_like(value) if grad is None else grad) * weights[name]
            dvalue = dvalue.to(value.dtype)
            target, several = self._item(targets, name), isinstance(self._item(predictions, name), tuple)
            part = (loss, dvalue, target, target, divided_by[name], value)
            if target_gradient and isinstance(target, Tensor) and target.is_floating_point():
                *found, dtarget = backward_part(*part, target_gradient=True)
                dtargets.add(self._key(targets, name), dtarget)
            else:
                found = backward_part(*part)
                found = list(found) if isinstance(found, tuple) and several else [found]
            dpredictions.add(self._key(predictions, name), tuple(found) if several else found[0])
        return (dpredictions.whole(), dtargets.whole()) if target_gradient else dpredictions.whole()

    def _key(self, items: Any, name: str) -> Any:
        """The key of what the part reads in `items`; None where they are the same for all."""
        if not isinstance(items, (dict, tuple)):
            return None
        if isinstance(items, dict):
            return self.reads.get(name, name)
        index = self.reads.get(name, list(self.losses).index(name))
        return index + len(items) if isinstance(index, int) and index < 0 else index

    def _item(self, items: Any, name: str) -> Any:
        key = self._key(items, name)
        if key is None:
            return items
        try:
            return items[key]
        except (KeyError, IndexError, TypeError):
            has = f"keys {list(items)}" if isinstance(items, dict) else f"{len(items)} items"
            message = f"WeightedSum: the part {name!r} reads {key!r}, but given are {has}"
            raise KeyError(message) from None

    def extra_repr(self) -> str:
        return ", ".join(f"{name}: {weight}" for name, weight in self.weights.items())


class _Gradients:
    """Gradients of what the parts read, in the structure of that."""

    def __init__(self, items: Any) -> None:
        self.items = items
        self.found: dict[Any, Any] = {}

    def add(self, key: Any, gradient: Any) -> None:
        # dp = sum of dp_k over the parts k that read p                                                     (3)
        self.found[key] = add_nested(self.found.get(key), gradient)

    def whole(self) -> Any:
        if isinstance(self.items, dict):
            return {key: self.found.get(key) for key in self.items}
        if isinstance(self.items, tuple):
            return rebuild(self.items, [self.found.get(index) for index in range(len(self.items))])
        return self.found.get(None)
