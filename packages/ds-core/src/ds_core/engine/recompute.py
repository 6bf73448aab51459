"""Trade time for memory: keep a layer's inputs only, and run its forward again in backward. Theory: docs/recompute.md.

The second forward must equal the first: random draws are replayed from a tape
(restoring the generator's state instead fails under fullgraph), and layers leave
their running statistics alone while `replaying()`.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.composition import require_layer
from ds_core.engine.mismatch import autocast_dtype
from ds_core.engine.module import Module, walk
from ds_core.engine.nested_values import is_differentiable
from ds_core.engine.trace import TraceError, describe, no_record, record, recording
from ds_core.engine.unchanged import tensors_in, versions_of


class _Tapes(threading.local):
    """The open tapes of this thread, innermost last, each with whether it is replayed (or else written)."""

    def __init__(self) -> None:
        self.open: list[tuple[list[Tensor], bool]] = []


_tapes = _Tapes()


class tape:
    """While open, `drawn` writes its tensors to `draws`, or with `replay=True` takes them from there in order."""

    def __init__(self, draws: list[Tensor], replay: bool = False) -> None:
        self.entry = (draws, replay)

    def __enter__(self) -> None:
        _tapes.open.append(self.entry)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        _tapes.open.pop()


def taping() -> bool:
    """Whether random draws are being written down or replayed."""
    return len(_tapes.open) > 0


def replaying() -> bool:
    """Whether a forward runs for the second time: leave running statistics alone."""
    return any(replay for _, replay in _tapes.open)


def drawn(draw: Callable[[], Tensor]) -> Tensor:
    """The tensor that `draw` draws at random; every layer that draws does so through here.

    Raises:
        TraceError: a replayed forward draws more than the first one did.
    """
    written = []
    value = None
    for draws, replay in reversed(_tapes.open):
        if replay:
            if len(draws) == 0:
                raise TraceError("a recomputed forward draws more random tensors than the first one did")
            value = draws.pop(0)
            break
        written.append(draws)
    if value is None:
        value = draw()
    for draws in written:
        draws.append(value)
    return value


class Recompute(Module):
    """The same function as `layer`, keeping only its inputs (and its random draws) between forward and backward.

    Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. Costs one more forward of `layer`.

    Raises:
        TypeError: `layer` is no layer.
        TraceError: if the second forward would not be the first: the layer changes its input in place; or, from
            `backward`, one below has been switched between training and evaluation, or draws more or fewer random
            tensors, or autocast is another one.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = require_layer("Recompute", layer)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        if not recording():
            return self.layer.forward(*inputs, **options)
        draws: list[Tensor] = []
        eager = not torch.compiler.is_compiling()
        given = tensors_in((inputs, options)) if eager else []
        before = versions_of(given)
        with no_record(), tape(draws):
            outputs = self.layer.forward(*inputs, **options)
        if versions_of(given) != before:
            raise TraceError(
                f"Recompute: {describe(self.layer)} changes its input in place, so that its second forward would be "
                "given another one: let it work on a copy"
            )
        then = (_modes(self.layer), _autocast(given))
        self.save(inputs, options, draws, then, reads=self.layer.parameters() if eager else ())
        return outputs

    def backward(self, *dys: Any, **options: Any) -> Any:
        inputs, forward_options, draws, (modes, autocast) = self.saved()
        if dys and all(dy is None for dy in dys):  # without any: a loss, whose gradient is 1
            differentiable = [any(map(is_differentiable, tensors_in((value,)))) for value in inputs]
            return (None,) * sum(differentiable) if sum(differentiable) > 1 else None
        self._check_same(modes, autocast, tensors_in((inputs, forward_options)))
        left = list(draws)
        with record(), tape(left, replay=True):
            self.layer.forward(*inputs, **forward_options)
            if left:
                raise TraceError(
                    f"a recomputed forward draws {len(draws) - len(left)} random tensors, but the first one drew "
                    f"{len(draws)}: its layers must draw the same each time"
                )
            return self.layer.backward(*dys, **options)

    def _check_same(self, modes: list[tuple[str, Any, bool]], autocast: Any, given: list[Tensor]) -> None:
        """Raise if a layer below has another mode than in the first forward, or autocast is another."""
        for (name, layer, mode), (_, _, now) in zip(modes, _modes(self.layer), strict=False):
            if mode != now:
                raise TraceError(
                    f"Recompute: {name or 'the layer'}, {describe(layer)}, was switched to "
                    f"{'training' if now else 'evaluation'} between forward and backward, so that its second forward "
                    "would not be the first: call train() and eval() before forward or after backward"
                )
        if not torch.compiler.is_compiling() and autocast != _autocast(given):
            raise TraceError(
                f"Recompute: backward of {describe(self.layer)} runs under another autocast than its forward: run "
                "both inside it, or neither"
            )


def _autocast(given: list[Tensor]) -> list[torch.dtype | None]:
    """What autocast casts to on the devices of these tensors."""
    return [autocast_dtype(device) for device in sorted({tensor.device.type for tensor in given})]


def _modes(layer: Any) -> list[tuple[str, Any, bool]]:
    """Each layer below, once, and whether it is in training mode."""
    return [(name, below, getattr(below, "training", True)) for name, below in walk(layer, seen=set())]
