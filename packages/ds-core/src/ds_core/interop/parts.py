"""A torch.nn.Module whose parts are those of a layer. Any other module put there would never run, so it is refused."""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from ds_core.engine.trace import describe
from ds_core.interop.tensor_slots import TensorSlot, content, put, turn


class FixedParts(torch.nn.Module):
    """Holds the tensors of a layer and the parts below it. Takes no modules but parametrizations of its tensors.

    A parameter or buffer that is put in the place of another is the layer's from then on, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._slots: dict[str, list[TensorSlot]] = {}  # where the layer keeps each tensor, by its name here

    def hold(self, name: str, tensor: Tensor, kind: str) -> None:
        """Register a tensor under a name, which may have dots."""
        *path, last = name.split(".")
        owner = self._step(path)
        if kind == "parameter":
            owner.register_parameter(last, as_parameter(tensor))
        else:
            owner.register_buffer(last, tensor, persistent=not last.startswith("_"))

    def place(self, name: str, part: "FixedParts") -> None:
        """Put a part under a name, which may have dots."""
        *path, last = name.split(".")
        self._step(path)._modules[last] = part

    def _step(self, path: Sequence[str]) -> Any:
        owner: Any = self
        for name in path:
            owner = owner._modules.setdefault(name, Group())
        return owner

    def part_at(self, path: Sequence[str]) -> Any:
        """The part at the end of a dotted name.

        Raises:
            TypeError: another module was put there.
        """
        part: Any = self
        for name in path:
            part = part._modules[name]
            if not isinstance(part, FixedParts):
                refuse_module(self, ".".join(path))
        return part

    def __setattr__(self, name: str, value: Any) -> None:
        part = self.__dict__.get("_modules", {}).get(name)
        changes = isinstance(value, torch.nn.Module) if part is None else not _same_layer(part, value)
        if changes and name != "parametrizations":
            refuse_module(self, name)
        super().__setattr__(name, value)
        if name in self.__dict__.get("_buffers", ()):
            self._hand_down(name, value)

    def register_parameter(self, name: str, param: torch.nn.Parameter | None) -> None:
        super().register_parameter(name, param)  # comes here from __setattr__ as well
        self._hand_down(name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        super().register_buffer(name, tensor, persistent)
        self._hand_down(name, tensor)

    def _hand_down(self, name: str, tensor: Tensor | None) -> None:
        """Let the layer hold what this module holds from now on under the name."""
        slots = self.__dict__.get("_slots", {}).get(name, ())
        if slots:
            with turn():
                for slot in slots:
                    if content(slot) is not tensor:
                        put(slot, tensor)

    def __delattr__(self, name: str) -> None:
        if name != "parametrizations" and name in self._modules:
            refuse_module(self, name)
        super().__delattr__(name)

    def add_module(self, name: str, module: torch.nn.Module | None) -> None:
        refuse_module(self, name)


def _same_layer(part: Any, value: Any) -> bool:
    """Whether `value` is as good as `part`: a replica, as torch.nn.DataParallel makes them."""
    layers = [getattr(module, "wrapped_layer", None) for module in (part, value)]
    return type(value) is type(part) and layers[0] is layers[1]


def refuse_module(owner: Any, name: str) -> NoReturn:
    layer = getattr(owner, "wrapped_layer", None)
    raise TypeError(
        f"as_torch: {name} of {'a list of layers' if layer is None else describe(layer)} is fixed: the layer calls its "
        "own parts, so that a module put there or taken away would change nothing. Change the layer itself "
        "(module.wrapped_layer; from_torch makes a layer of a torch.nn module) and wrap it anew"
    )


def refuse_hook(part: Any, *_: Any, **__: Any) -> NoReturn:
    """In place of `register_forward_hook` and its like."""
    layer = getattr(part, "wrapped_layer", None)
    raise TypeError(
        f"as_torch: {'a list of layers' if layer is None else describe(layer)} is a part of a wrapped layer, which "
        "calls it directly, so that a hook on it would never run: hook the whole as_torch module, or build the model "
        "of parts that are wrapped one by one"
    )


class Group(FixedParts):
    """A step of a dotted name: the list `blocks` of the part `blocks.0`."""

    register_forward_pre_hook = refuse_hook
    register_forward_hook = refuse_hook
    register_full_backward_pre_hook = refuse_hook
    register_full_backward_hook = refuse_hook
    register_backward_hook = refuse_hook


def as_parameter(tensor: Tensor) -> torch.nn.Parameter:
    """The tensor itself, a `torch.nn.Parameter` from now on, so that whoever has it, another layer say, shares it."""
    if not isinstance(tensor, torch.nn.Parameter):
        if type(tensor) is Tensor:
            tensor.__class__ = torch.nn.Parameter
        else:
            tensor._is_param = True  # how torch marks a Parameter of another class
    return tensor  # type: ignore[return-value]
