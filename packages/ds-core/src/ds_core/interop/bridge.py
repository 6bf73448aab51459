"""One call of a layer as one node of autograd's graph, whose backward is the layer's. Theory: docs/interop.md."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.composition import backward_without_input
from ds_core.engine.nested_values import (
    Slot,
    is_differentiable,
    leaves,
    map_gradients,
    none_if_zero,
    put_tensors,
    take_tensors,
)
from ds_core.engine.parameter import watched_accumulation
from ds_core.engine.trace import Entry, describe, record
from ds_core.interop.arguments import input_gradients
from ds_core.interop.graph_break import outside_the_graph
from ds_core.interop.tensor_slots import TensorSlot, content, swapped_tensors

Slots = list[list[TensorSlot]]


class Call:
    """One forward: structures with slots where the tensors were, which only autograd holds."""

    def __init__(
        self, layer: Any, parameters: Slots, buffers: Slots, args: Any, kwargs: Any, skips_input: bool
    ) -> None:
        self.layer = layer
        self.skips_input = skips_input  # whether backward can leave out the gradients of the inputs
        self.parameters = parameters
        self.buffers = buffers
        self.args = args
        self.kwargs = kwargs
        self.outputs: Any = None
        self.layers: list[Any] = []
        self.saved: Any = None
        self.buffers_then: list[Any] = []
        self.shapes: list[torch.Size] = []
        self.anchor: Tensor | None = None  # computed from the parameters and the inputs, as autograd sees it


class _Bridge(torch.autograd.Function):
    """Forward and backward of a `Call`. The tensors: the layer's parameters, then those among its inputs."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = tensors[len(call.parameters) :]
        ctx.autocast = _autocast_of(tensors)
        with ctx.autocast(), record() as trace:
            outputs = call.layer.forward(*put_tensors(call.args, inputs), **put_tensors(call.kwargs, inputs))
            entries = trace.take()
        call.outputs, results = take_tensors(outputs)
        call.layers = [entry.layer for entry in entries]
        call.saved, saved = take_tensors([entry.saved for entry in entries])
        call.buffers_then = [content(same[0]) for same in call.buffers]
        call.shapes = [tensor.shape for tensor in inputs]
        results = _apart(results, [*tensors, *saved])
        ctx.call = call
        ctx.save_for_backward(*tensors[: len(call.parameters)], *saved)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[tensor for tensor in results if not is_differentiable(tensor)])
        return tuple(results)

    @staticmethod
    @outside_the_graph
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        call: Call = ctx.call
        own = len(call.parameters)
        needed: tuple[bool, ...] = ctx.needs_input_grad[1:]
        tensors = ctx.saved_tensors  # may run a checkpointed forward, so before anything is swapped
        # stand-ins with the same memory and a .grad of their own: adding to the parameters' is autograd's business
        stand_ins = [tensor.detach().requires_grad_(need) for tensor, need in zip(tensors[:own], needed, strict=False)]
        saved = put_tensors(call.saved, tensors[own:])
        entries = [Entry(layer, kept) for layer, kept in zip(call.layers, saved, strict=True)]
        _refuse_computed(call, grads)
        dys = map_gradients(lambda leaf: grads[leaf.index] if isinstance(leaf, Slot) else None, call.outputs)
        dys = [none_if_zero(dy) for dy in (dys if isinstance(dys, tuple) else (dys,))]
        swapped = swapped_tensors(call.parameters + call.buffers, stand_ins + call.buffers_then)
        returned = None
        with ctx.autocast(), swapped, record(entries), _only(stand_ins, call.layer):
            if any(needed[own:]) or not call.skips_input:
                returned = call.layer.backward(*dys)
            else:
                backward_without_input(call.layer, *dys)
        gradients: list[Tensor | None] = [tensor.grad for tensor in stand_ins]
        if any(needed[own:]):
            gradients += input_gradients(call.layer, call.args, call.kwargs, returned, needed[own:], call.shapes)
        else:
            gradients += [None] * len(call.shapes)
        return (None, *(_once(gradients, call.anchor, grads) if torch.is_grad_enabled() else gradients))


def run_bridge(call: Call, tensors: Sequence[Tensor]) -> Any:
    """The outputs of the call, in their structure, with gradients from the layer's backward.

    Raises:
        RuntimeError: inside a transform of torch.func.
    """
    try:
        call.anchor = _Anchor.apply(*tensors)  # type: ignore[no-untyped-call]
        results = _Bridge.apply(call, *tensors)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if "functorch transforms" not in str(error):
            raise
        raise RuntimeError(
            f"as_torch: torch.func (vmap, grad, jvp ...) cannot look into the handwritten backward of "
            f"{describe(call.layer)}: use torch.autograd, or the layer itself (module.wrapped_layer)"
        ) from None
    return put_tensors(call.outputs, results, compute=True)


def _refuse_computed(call: Call, grads: Sequence[Tensor | None]) -> None:
    """Refuse the gradient of a tensor in an output that is no field of its dataclass: backward is given no such."""
    fields = {leaf.index for leaf in leaves(call.outputs) if isinstance(leaf, Slot)}
    if any(gradient is not None and index not in fields for index, gradient in enumerate(grads)):
        raise TypeError(
            f"as_torch: an output of {describe(call.layer)} holds a tensor that its dataclass does not take as a "
            "field, and it has a gradient, which backward could not be given: compute it from the fields instead"
        )


def _only(parameters: Sequence[Tensor], layer: Any) -> AbstractContextManager[None]:
    """Refuse gradients of other parameters: they would go to a `.grad` that nobody reads."""
    known = {id(parameter) for parameter in parameters}

    def tell(parameter: Tensor) -> None:
        if id(parameter) not in known:
            raise TypeError(
                f"as_torch: {describe(layer)} has got a parameter of shape {tuple(parameter.shape)} since it was "
                "wrapped, of which the module knows nothing: wrap the layer anew"
            )

    return watched_accumulation(tell)


class _Anchor(torch.autograd.Function):
    """No number, computed from all that a call depends on.

    A second derivative by some tensor, `torch.autograd.grad(..., inputs)`, only visits what leads back to it: by the
    anchor `_Once` does, and can refuse. It holds the graph behind the tensors, which the call holds too, and no tensor.
    """

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        return torch.empty(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        raise AssertionError("_Once comes first, and raises")

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError("as_torch: forward-mode derivatives (jvp) have no handwritten counterpart")


class _Once(torch.autograd.Function):
    """Gradients asked for with `create_graph=True`: they can be used, and not differentiated again."""

    @staticmethod
    def forward(ctx: Any, number: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors[:number]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        raise RuntimeError("as_torch: a handwritten backward has no derivative, so no second derivative can be taken")


def _once(gradients: list[Tensor | None], anchor: Tensor | None, dys: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients, as what cannot be differentiated by what the call or its own backward depended on."""
    given = [gradient for gradient in gradients if gradient is not None]
    sources = [tensor for tensor in (anchor, *dys) if tensor is not None]
    guarded = iter(_Once.apply(len(given), *given, *sources))  # type: ignore[no-untyped-call]
    return [None if gradient is None else next(guarded) for gradient in gradients]


def _apart(results: list[Tensor], kept: list[Tensor]) -> list[Tensor]:
    """The outputs, none a view of a storage that nobody else has.

    The y of a linear layer is a view of its matrix product; autograd would forbid writing to it, `ReLU(inplace=True)`.
    """
    storages = [tensor.untyped_storage().data_ptr() for tensor in [*kept, *results]]
    alone = [storages.count(tensor.untyped_storage().data_ptr()) == 1 for tensor in results]
    return [t.data if t._is_view() and its_own else t for t, its_own in zip(results, alone, strict=True)]


def _autocast_of(tensors: Sequence[Tensor]) -> Callable[[], AbstractContextManager[Any]]:
    """A context with the autocast of now, for backward too; no cache, whose casts made here would lack a gradient."""
    devices = {tensor.device.type for tensor in tensors}
    casts = [
        partial(
            torch.autocast,
            device,
            dtype=torch.get_autocast_dtype(device),
            enabled=torch.is_autocast_enabled(device),
            cache_enabled=False,
        )
        for device in devices
        if torch.amp.is_autocast_available(device)
    ]

    @contextmanager
    def entered() -> Iterator[None]:
        with ExitStack() as stack:
            for cast in casts:
                stack.enter_context(cast())
            yield

    return entered
