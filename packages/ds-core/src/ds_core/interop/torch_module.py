"""Our layer as a torch.nn.Module. Theory: docs/interop.md."""

from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ds_core.engine.composition import require_layer
from ds_core.engine.foreign import ForeignModuleError
from ds_core.engine.module import Module, own_tensors, walk
from ds_core.engine.nested_values import take_tensors
from ds_core.engine.trace import describe, no_record, recording
from ds_core.interop.arguments import refuse_hidden
from ds_core.interop.bridge import Call, Slots, run_bridge
from ds_core.interop.graph_break import outside_the_graph
from ds_core.interop.parts import FixedParts, refuse_hook
from ds_core.interop.tensor_slots import TensorSlot, content, find_tensors, put, swapped_tensors, turn
from ds_core.protocols import takes_input_gradient


def as_torch(layer: Any) -> torch.nn.Module:
    """A torch.nn.Module that computes what `layer` does and gets its gradients from `layer.backward`.

    The layer's parameters become `torch.nn.Parameter`s, the same objects as before, and the module's, under the same
    names: both sides see every change, and tied ones stay tied, however many wrappers hold them. Each layer inside is a
    part of the module, with its name. Gradients reach autograd as any module's do: hooks on the module,
    `torch.autograd.grad`, checkpointing, autocast and data parallelism work, in several threads, too. A second
    derivative raises; `torch.compile` ends its graph here and begins another behind.

    Attributes:
        wrapped_layer: the layer; each part has its own.

    Raises:
        TypeError: `layer` is no layer, or one of a foreign class that holds a parameter in no attribute, list or dict.
            Later: for a hook on a part, or a module put in the place of one, which would have no effect; from backward,
            for an argument that requires a gradient and gets none.
        ForeignModuleError: called inside `record()`, where it would get no gradient.
    """
    return TorchModule(require_layer("as_torch", layer))


class Adopted(NamedTuple):
    """A tensor of the layer: the way to the part that has it, its name there, and where the layers keep it."""

    path: tuple[str, ...]
    name: str
    slots: list[TensorSlot]


class TorchModule(FixedParts):
    """What `as_torch` returns; each layer inside is a `Part`, which can be called, too."""

    wrapped_layer: Any

    def __init__(self, layer: Any, parts: "dict[int, TorchModule] | None" = None) -> None:
        super().__init__()
        self.__dict__["wrapped_layer"] = layer  # not by setattr, for a layer may be a torch.nn.Module as well
        self.__dict__["training"] = getattr(layer, "training", True)
        parts = {} if parts is None else parts
        parts[id(layer)] = self
        for kind in ("parameter", "buffer"):
            for name, tensor in own_tensors(layer, kind):
                self.hold(name, tensor, kind)
        for name, child in layer.named_children() if isinstance(layer, Module) else ():
            if id(child) not in parts:
                Part(child, parts)
            self.place(name, parts[id(child)])
        self._adopted = {kind: _adopted(layer, kind) for kind in ("parameter", "buffer")}
        for adopted in self._adopted.values():
            for path, name, slots in adopted:
                self.part_at(path)._slots[name] = slots
        self._given: dict[str, list[Any]] = {}  # what the layer held when this module last gave it its tensors
        self._skips_input = _skips_input(layer)
        _give_own(self)
        self.register_load_state_dict_post_hook(_give_own)  # type: ignore[no-untyped-call]

    @property
    def instead_in_record(self) -> str:
        """What `ForeignModuleError` says to do."""
        return (
            f"as_torch({describe(self.wrapped_layer)}) needs autograd, which is off there; call the layer itself, "
            "module.wrapped_layer, whose backward you then call, or leave record()"
        )

    def own(self, kind: str) -> tuple[list[Any], Slots]:
        """The tensors that the module has now, each once, with their slots: conversions and parametrizations differ."""
        tensors: dict[int, Any] = {}
        slots: dict[int, list[TensorSlot]] = {}
        for adopted in self._adopted[kind]:
            tensor = getattr(self.part_at(adopted.path), adopted.name)
            if tensor is None:  # taken away, `module.bias = None`, from the layer, too
                continue
            if id(tensor) not in tensors and not adopted.slots:
                raise TypeError(
                    f"as_torch: {'.'.join([*adopted.path, adopted.name])} of {describe(self.wrapped_layer)} was one "
                    "tensor with another one when the layer was wrapped, and no longer is: tie the two again"
                )
            tensors[id(tensor)] = tensor
            slots.setdefault(id(tensor), []).extend(adopted.slots)
        return list(tensors.values()), list(slots.values())

    @outside_the_graph
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        layer = self.wrapped_layer
        if recording():  # said already if it is called as a module is, by __call__
            raise ForeignModuleError(f"TorchModule.forward ran inside record(): {self.instead_in_record}")
        (positional, named), inputs = take_tensors((args, kwargs))
        if torch.is_grad_enabled():
            refuse_hidden(layer, positional, named)
        with turn() as nested, ExitStack() as swapped:
            if not nested:
                self._compare_with_layer()
            (parameters, slots), (buffers, buffer_slots) = self.own("parameter"), self.own("buffer")
            swapped.enter_context(swapped_tensors(slots + buffer_slots, parameters + buffers))
            if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in parameters + inputs):
                with no_record():
                    outputs = layer.forward(*args, **kwargs)
            else:
                call = Call(layer, slots, buffer_slots, positional, named, self._skips_input)
                outputs = run_bridge(call, [*parameters, *inputs])
            self._follow_buffers()
        return outputs

    def _follow_buffers(self) -> None:
        """Take over the buffers that the layer has replaced rather than changed in place."""
        for number, (path, name, slots) in enumerate(self._adopted["buffer"]):
            part = self.part_at(path)
            if slots and content(slots[0]) is not getattr(part, name):
                self._given["buffer"][number] = content(slots[0])
                setattr(part, name, content(slots[0]))

    def _compare_with_layer(self) -> None:
        """Raise if somebody else has given the layer another parameter, of which this module knows nothing."""
        for kind, given in self._given.items():
            for number, (path, name, slots) in enumerate(self._adopted[kind]):
                found = content(slots[0]) if slots else given[number]
                if found is given[number]:
                    continue
                if found is getattr(self.part_at(path), name):  # set on the part, which handed it down
                    given[number] = found
                    continue
                if kind == "parameter":
                    raise TypeError(
                        f"as_torch: {'.'.join([*path, name])} of {describe(self.wrapped_layer)} has been replaced on "
                        "the layer, by another wrapper perhaps, and is no longer this module's: set it on the module, "
                        "or wrap the layer anew"
                    )
                given[number] = found
                setattr(self.part_at(path), name, found)

    def train(self, mode: bool = True) -> "TorchModule":
        super().train(mode)
        if hasattr(self.wrapped_layer, "train"):
            self.wrapped_layer.train(mode)  # which may leave some of its parts as they are
        for part in self.modules():
            if isinstance(part, TorchModule):
                part.__dict__["training"] = getattr(part.wrapped_layer, "training", mode)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "training" and hasattr(self.wrapped_layer, "training"):
            self.wrapped_layer.training = value

    def _apply(self, fn: Any, recurse: bool = True) -> "TorchModule":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        _give_own(self)
        return self

    def __repr__(self) -> str:
        return f"as_torch({self.wrapped_layer!r})"


class Part(TorchModule):
    """A layer inside a wrapped layer. The layer around it calls it directly, so a hook would never run: refused."""

    register_forward_pre_hook = refuse_hook
    register_forward_hook = refuse_hook
    register_full_backward_pre_hook = refuse_hook
    register_full_backward_hook = refuse_hook
    register_backward_hook = refuse_hook


def _skips_input(layer: Any) -> bool:
    """Whether every layer with parameters takes `input_gradient=False`: those around it hand it on to them."""
    trained = [part for _, part in walk(layer, seen=set()) if next(iter(part.parameters()), None) is not None]
    return all(takes_input_gradient(part.backward) for part in trained)


def _adopted(layer: Any, kind: str) -> list[Adopted]:
    """Every tensor of `kind` that the layer or one below has; a tied one under each of its names."""
    found: dict[int, list[TensorSlot]] = {}
    find_tensors(layer, found, set())
    adopted: list[Adopted] = []
    first: dict[int, Adopted] = {}
    for path, part in walk(layer, seen=set()):
        for name, tensor in own_tensors(part, kind):
            if id(tensor) not in found:
                raise TypeError(f"as_torch: {describe(part)} holds {name} in no attribute, list or dict")
            *inner, last = name.split(".")
            slots = [slot for slot in found[id(tensor)] if slot[0] is part and slot[1] == name]
            adopted.append(Adopted((*path.split("."), *inner) if path else tuple(inner), last, slots))
            first.setdefault(id(tensor), adopted[-1])
    named = {(id(owner), key) for each in adopted for owner, key in each.slots}
    for number, each in first.items():
        each.slots.extend(slot for slot in found[number] if (id(slot[0]), slot[1]) not in named)
    return adopted


def _give_own(module: Any, _: Any = None) -> None:
    """Give the layer of a `TorchModule`, for good, the tensors that the module has now."""
    for kind, adopted in module._adopted.items():
        for tensor, slots in zip(*module.own(kind), strict=True):
            kept = tensor.detach() if isinstance(tensor, Tensor) and not tensor.is_leaf else tensor
            for slot in slots:
                put(slot, kept)
        module._given[kind] = [content(each.slots[0]) if each.slots else None for each in adopted]
