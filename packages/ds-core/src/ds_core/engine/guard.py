"""What each forward and backward of a layer runs inside, so that a mistake is named where it is made.

While `record()` is open, the trace learns the shape and dtype of each output, and a gradient that does not fit is
refused before any backward sees it. Where PyTorch refuses tensors of several dtypes or devices, the message names the
layer. A compiled step leaves all of this out. `docs/trace.md` says more.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from ds_core.engine.mismatch import mismatch
from ds_core.engine.nested_values import items_of, pair_leaves
from ds_core.engine.trace import describe, open_trace
from ds_core.errors import ShapeError

Method = Callable[..., Any]


class Output:
    """Shape and dtype of an output, which its gradient must have."""

    __slots__ = ("dtype", "shape")

    def __init__(self, tensor: Tensor) -> None:
        self.shape = tensor.shape
        self.dtype = tensor.dtype

    def fits(self, dy: Any) -> bool:
        """Whether `dy` can be its gradient. Under autocast a sum may be wider than its parts, and so their gradient."""
        if dy is None:
            return True
        if not isinstance(dy, Tensor) or dy.shape != self.shape:
            return False
        return dy.dtype == self.dtype or torch.is_autocast_enabled(dy.device.type)


def guard(layer_class: type, *, base: type = object) -> None:
    """Wrap `forward` and `backward` of a class, unless they are those of `base`."""
    for name, wrap in (("forward", _forward), ("backward", _backward)):
        method = getattr(layer_class, name, None)
        if inspect.isfunction(method) and method is not getattr(base, name, None) and not hasattr(method, "guards"):
            setattr(layer_class, name, wrap(method))


def refuse_gradient(layer: Any, **arguments: Tensor | None) -> None:
    """Raise TypeError in `record()` for an argument that requires a gradient, if the layer's backward gives none.

    Autograd would bring it one, so that a mask or a target that is trained would be trained by one engine alone.
    """
    for name, tensor in arguments.items():
        if tensor is not None and tensor.requires_grad and open_trace() is not None:
            raise TypeError(
                f"the argument {name} of {describe(layer)} requires a gradient, but the layer's backward gives none "
                "for it: detach it"
            )


def _forward(forward: Method) -> Method:
    @functools.wraps(forward)
    def guarded(self: Any, *inputs: Any, **options: Any) -> Any:
        # a super().forward() is part of the forward that calls it, whose outputs are the layer's
        if is_compiling() or type(self).forward is not guarded:
            return forward(self, *inputs, **options)
        trace = open_trace()
        before = 0 if trace is None else len(trace.entries)
        try:
            outputs = forward(self, *inputs, **options)
        except RuntimeError as error:
            fault = mismatch(self, error, forward, inputs, options)
            if fault is None:
                raise
            raise ShapeError(fault) from error
        if trace is not None and len(trace.entries) > before:
            # a layer that calls others saves after it calls them, or before
            entry = trace.entries[-1] if trace.entries[-1].layer is self else trace.entries[before]
            if entry.layer is self:
                entry.outputs = Output(outputs) if isinstance(outputs, Tensor) else _outlines(outputs)
        return outputs

    guarded.guards = True  # type: ignore[attr-defined]
    return guarded


def _backward(backward: Method) -> Method:
    @functools.wraps(backward)
    def guarded(self: Any, *dys: Any, **options: Any) -> Any:
        if is_compiling() or type(self).backward is not guarded:
            return backward(self, *dys, **options)
        trace = open_trace()
        outputs = None
        if trace is not None and trace.entries and trace.entries[-1].layer is self:
            outputs = trace.entries[-1].outputs
            if outputs is not None and not (len(dys) == 1 and type(outputs) is Output and outputs.fits(dys[0])):
                _check_gradients(self, backward, outputs, dys, options)
        try:
            if len(dys) == 1 and not options:
                given = [dys[0]]
                del dys  # no variable here may hold a gradient for as long as the layers below run
                return backward(self, given.pop())
            return backward(self, *dys, **options)
        except RuntimeError as error:
            fault = mismatch(self, error, None, outputs, {})
            if fault is None:
                raise
            raise ShapeError(fault) from error

    guarded.guards = True  # type: ignore[attr-defined]
    return guarded


def _outlines(outputs: Any) -> tuple[Any, ...]:
    """For each gradient that backward takes what it must fit."""
    return tuple(map(_outline, outputs if isinstance(outputs, tuple) else (outputs,)))


def _outline(value: Any) -> Any:
    """An `Output` for each tensor, in tuples and dicts: a dataclass built of them might compute with its fields."""
    items = items_of(value)
    if items is None:
        return Output(value) if isinstance(value, Tensor) else value
    outlines = [_outline(item) for item in items]
    return dict(zip(value, outlines, strict=True)) if isinstance(value, dict) else tuple(outlines)


def _check_gradients(layer: Any, backward: Method, outputs: Any, dys: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Raise unless each gradient fits its output; trailing ones may be left out."""
    if options.keys() - {"input_gradient", "target_gradient"}:
        parameters = inspect.signature(backward).parameters.values()
        named = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD][1:]  # without self
        dys = (*dys, *[options.get(name) for name in named[len(dys) :]])
    try:
        pairs = list(pair_leaves(outputs if isinstance(outputs, tuple) else (outputs,), dys))
    except TypeError as error:
        raise TypeError(f"backward of {describe(layer)}: {error}") from None
    for number, (output, dy) in enumerate(pairs):
        if isinstance(output, Output) and not output.fits(dy):
            given = f"{tuple(dy.shape)} in {dy.dtype}" if isinstance(dy, Tensor) else f"{dy!r:.80}"
            which = "the gradient" if len(pairs) == 1 else f"as gradient {number + 1} of {len(pairs)}"
            raise ShapeError(
                f"backward of {describe(layer)}: given {which} {given}, expected {tuple(output.shape)} in "
                f"{output.dtype}, as its output is; of several calls of one layer the last comes first"
            )
