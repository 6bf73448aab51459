"""What each forward and backward of a layer runs inside, so that a mistake is named where it is made.

While `record()` is open, the trace learns the shape and dtype of each output, and a gradient that does not fit is
refused before any backward sees it. Where PyTorch refuses tensors of several dtypes or devices, the message names the
layer. A compiled step leaves all of this out. `docs/trace.md` says more.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.compiler import is_compiling

from ds_core.engine.mismatch import autocast_dtype, explain_mismatch, explain_no_tensor
from ds_core.engine.nested_values import items_of, leaves, pair_leaves
from ds_core.engine.trace import Entry, Trace, describe, open_trace
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
        return dy.dtype == self.dtype or (dy.is_floating_point() and autocast_dtype(dy.device.type) is not None)


def guard(layer_class: type, *, base: type = object) -> None:
    """Wrap `forward` and `backward` of a class, unless they are those of `base`."""
    for name, wrap in (("forward", _forward), ("backward", _backward)):
        method = inspect.getattr_static(layer_class, name, None)  # a static method stays one, and goes unguarded
        if not inspect.isfunction(method) or method is inspect.getattr_static(base, name, None):
            continue
        if getattr(method, "guards", None) is not method:  # a decorator around a guarded one copies its attributes
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
            explain_mismatch(self, error, forward, inputs, options)
            raise
        except (AttributeError, IndexError, TypeError) as error:
            explain_no_tensor(self, error, forward, inputs, options)
            raise
        if trace is not None and len(trace.entries) > before:
            last = trace.entries[-1]
            entry = last if last.layer is self and last.outputs is None else _own_entry(self, trace, before)
            if entry is not None:
                entry.outputs = Output(outputs) if isinstance(outputs, Tensor) else _outlines(outputs)
        return outputs

    guarded.guards = guarded  # type: ignore[attr-defined]
    return guarded


def _backward(backward: Method) -> Method:
    @functools.wraps(backward)
    def guarded(self: Any, *dys: Any, **options: Any) -> Any:
        if is_compiling() or type(self).backward is not guarded:
            return backward(self, *dys, **options)
        trace = open_trace()
        outputs = None if trace is None else _outputs_to_come(self, trace)
        if outputs is not None and not (len(dys) == 1 and type(outputs) is Output and outputs.fits(dys[0])):
            _check_gradients(self, backward, outputs, dys, options)
        try:
            if len(dys) == 1 and not options:
                given = [dys[0]]
                del dys  # no variable here may hold a gradient for as long as the layers below run
                return backward(self, given.pop())
            return backward(self, *dys, **options)
        except RuntimeError as error:
            explain_mismatch(self, error, None, outputs, {})
            raise

    guarded.guards = guarded  # type: ignore[attr-defined]
    return guarded


def _own_entry(layer: Any, trace: Trace, before: int) -> Entry | None:
    """The entry of the call that has just ended, of a layer that saves and then calls others; None if it has none."""
    for entry in trace.entries[before:]:
        if entry.layer is layer and entry.outputs is None:
            trace.early.add(id(layer))
            return entry
    return None


def _outputs_to_come(layer: Any, trace: Trace) -> Any:
    """What the call of `layer` returned that its backward is about to go through; None if that is not known."""
    if len(trace.entries) == 0:
        return None
    last = trace.entries[-1]
    if id(layer) not in trace.early:
        return last.outputs if last.layer is layer else None
    if last.layer is layer:
        return None  # it calls itself, so that the last entry may be of an inner call
    return next((entry.outputs for entry in reversed(trace.entries) if entry.layer is layer), None)


def _outlines(outputs: Any) -> tuple[Any, ...]:
    """For each gradient that backward takes what it must fit."""
    return tuple(map(_outline, outputs if isinstance(outputs, tuple) else (outputs,)))


def _outline(value: Any) -> Any:
    """An `Output` for each tensor, in tuples and dicts: a dataclass built of them might compute with its fields.

    A named tuple stays one, so that an error can name it.
    """
    items = items_of(value)
    if items is None:
        return Output(value) if isinstance(value, Tensor) else value
    outlines = [_outline(item) for item in items]
    if hasattr(value, "_make"):
        return value._make(outlines)
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
            which = "the gradient" if len(pairs) == 1 else f"as gradient {number + 1} of {len(pairs)}"
            raise ShapeError(
                f"backward of {describe(layer)}: given {which} {_shown(dy)}, expected {tuple(output.shape)} in "
                f"{output.dtype}, as its output is; of several calls of one layer the last comes first"
            )


def _shown(dy: Any) -> str:
    """A gradient by its shape and dtype, one in a container by the container and the shapes: never its numbers."""
    if isinstance(dy, Tensor):
        return f"{tuple(dy.shape)} in {dy.dtype}"
    if items_of(dy) is None:
        return f"{dy!r:.80}"
    shapes = [str(tuple(leaf.shape)) for leaf in leaves(dy) if isinstance(leaf, Tensor)]
    return f"a {type(dy).__name__} that holds " + (f"tensors of shape {', '.join(shapes)}" if shapes else "no tensor")
