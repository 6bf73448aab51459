"""The base class of layers: finds parameters, buffers and children among the attributes.

Behaves like torch.nn.Module where both have a method, except that a parameter
is a plain leaf tensor and that a layer has a `backward`. `docs/module.md` says more.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ds_core.engine.attributes import NEVER_LAYERS, layer_attributes, refuse_strangers
from ds_core.engine.guard import guard
from ds_core.engine.parameter import replace_value
from ds_core.engine.trace import save, take_saved
from ds_core.errors import StateDictError

M = TypeVar("M", bound="Module")


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left alone: names only here, names only in the file."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A layer, or several: attributes are what it owns.

    A leaf tensor that requires a gradient is a parameter, one that does not is a buffer (left out of `state_dict` if
    its name starts with an underscore), a layer, or a list, tuple or dict of layers (of any depth), is a child. Whether
    a name is a parameter or a buffer is fixed when it is first assigned, so frozen parameters stay parameters. Buffers
    are updated in place, under `no_record()`.

    Attributes:
        training: whether dropout drops, and so on; `train` and `eval` set it everywhere below.
        backward_reads_parameters: False in a class whose backward needs no parameter's value, as an embedding's: its
            parameters may then change between a forward and its backward.
    """

    training: bool = True
    backward_reads_parameters: bool = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "backward" in vars(cls) and "backward_reads_parameters" not in vars(cls):
            cls.backward_reads_parameters = True  # what a base class says is said of its own backward
        guard(cls, base=Module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Inputs to outputs; a subclass writes it, and calls `save` in it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, *args: Any, **kwargs: Any) -> Any:
        """Gradients of outputs to those of inputs; a subclass writes it, and first calls `saved` in it."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def save(self, *saved: Any, reads: Iterable[Tensor] = ()) -> None:
        """Keep `saved` for the backward of this call; outside `record()` keep nothing.

        Args:
            reads: parameters of layers below that this backward reads itself, which must not change until then.
        """
        save(self, *saved, reads=reads)

    def saved(self) -> tuple[Any, ...]:
        """Take back what the matching forward kept; raises `TraceError` where backward does not mirror forward."""
        return take_saved(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            if value.requires_grad and not value.is_leaf:
                raise TypeError(
                    f"{type(self).__name__}.{name}: this tensor was computed from another one that requires a "
                    "gradient, so it cannot be a parameter; use parameter(data)"
                )
            kind = self._names_of("_kinds").setdefault(name, "parameter" if value.requires_grad else "buffer")
            if kind == "buffer" and value.requires_grad:
                raise TypeError(
                    f"{type(self).__name__}.{name} is a buffer: it was first given a tensor that requires no gradient; "
                    "assign a parameter first, then freeze it with requires_grad_(False)"
                )
        else:
            refuse_strangers(value, name, self)
            if torch.compiler.is_compiling() or type(value) not in NEVER_LAYERS:  # torch 2.6 compiles no frozenset
                self._names_of("_may_hold_layers")[name] = ""
        object.__setattr__(self, name, value)

    def _names_of(self, table: str) -> dict[str, str]:
        """`_kinds`, whether an attribute is a parameter or a buffer, or `_may_hold_layers`; not `setdefault`, which the
        compiler of torch 2.6 does not know here."""
        if table not in self.__dict__:
            object.__setattr__(self, table, {})
        found: dict[str, str] = self.__dict__[table]
        return found

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """The layers among its attributes, with their names; one in a list is named by its index, `blocks.0`."""
        return layer_attributes(self)

    def children(self) -> Iterator[Any]:
        """The layers among its attributes, each once."""
        return iter({id(child): child for _, child in self.named_children()}.values())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """This module and all below it, parents first, with dotted names."""
        return iter(walk(self, prefix, set() if remove_duplicate else None))

    def modules(self) -> Iterator[Any]:
        """This module and all below it, each once, parents first."""
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Parameters, frozen ones too; a shared one once, under its first name."""
        return self._named_tensors("parameter", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """`named_parameters` without the names: each once."""
        return (tensor for _, tensor in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Buffers, those that `state_dict` leaves out too; a shared one once, under its first name."""
        return self._named_tensors("buffer", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """`named_buffers` without the names: each once."""
        return (tensor for _, tensor in self.named_buffers(recurse=recurse))

    def _named_tensors(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[Any]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]:
            for name, tensor in own_tensors(module, kind):
                if not (remove_duplicate and id(tensor) in seen):
                    seen.add(id(tensor))
                    yield (f"{path}.{name}" if path else name), tensor

    def _own_tensors(self, kind: str) -> list[tuple[str, Tensor]]:
        """This module's own parameters ("parameter"), buffers ("buffer"), or what `state_dict` saves ("state")."""
        if kind == "state":
            saved = [pair for pair in self._own_tensors("buffer") if not pair[0].startswith("_")]
            return self._own_tensors("parameter") + saved
        kinds: dict[str, str] = self.__dict__.get("_kinds", {})
        named = [(name, self.__dict__.get(name)) for name, own in kinds.items() if own == kind]
        return [(name, tensor) for name, tensor in named if isinstance(tensor, Tensor)]

    def state_dict(self) -> dict[str, Tensor]:
        """Every parameter and buffer by name, as torch.nn names them; the tensors share memory with the module."""
        return {name: tensor.detach() for name, tensor in self._named_state()}

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True) -> IncompatibleKeys:
        """Copy values in, from this module's `state_dict` or its torch.nn twin's.

        Raises:
            StateDictError: missing or unexpected names (unless `strict=False`), or a shape that differs;
                every mismatch is named, and nothing has been copied.
        """
        own = dict(self._named_state())
        missing = [name for name in own if name not in state_dict]
        unused = unused_state(self)
        unexpected = [name for name in state_dict if name not in own and name not in unused]
        problems = [f"missing: {', '.join(missing)}"] if strict and missing else []
        problems += [f"unexpected: {', '.join(unexpected)}"] if strict and unexpected else []
        problems += [
            f"{name} is on the meta device: call to_empty(device) first"
            for name, tensor in own.items()
            if name in state_dict and tensor.is_meta and not state_dict[name].is_meta
        ]
        problems += [
            f"{name}: given shape {tuple(state_dict[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in own.items()
            if name in state_dict and state_dict[name].shape != tensor.shape
        ]
        if problems:
            raise StateDictError(f"state_dict does not fit {type(self).__name__}: " + "; ".join(problems))
        with torch.no_grad():
            for name, tensor in own.items():
                if name in state_dict:
                    tensor.copy_(state_dict[name])
        return IncompatibleKeys(missing, unexpected)

    def _named_state(self) -> Iterator[tuple[str, Tensor]]:
        return self._named_tensors("state", "", True, False)

    def train(self: M, mode: bool = True) -> M:
        """Switch every module below to training mode (dropout drops) or, with False, to evaluation."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Switch every module below to evaluation: `train(False)`."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freeze (False) or unfreeze all parameters."""
        for tensor in self.parameters():
            tensor.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or with `set_to_none=False` fill those that are there with zeros."""
        for tensor in self.parameters():
            if set_to_none:
                tensor.grad = None
            elif tensor.grad is not None:
                tensor.grad.zero_()

    def apply(self: M, function: Callable[[Any], Any]) -> M:
        """Call `function` on every module below, children first, then on this one."""
        for child in self.children():
            child.apply(function) if isinstance(child, Module) else function(child)
        function(self)
        return self

    def to(self: M, *where: Any, device: Any = None, dtype: torch.dtype | None = None) -> M:
        """Move to a device, a floating dtype, or those of a given tensor. Every parameter stays the same object.

        Integer buffers move but keep their dtype; gradients go along.
        """
        for item in where:
            if isinstance(item, torch.dtype):
                dtype = item
            elif isinstance(item, Tensor):
                device, dtype = item.device, item.dtype
            else:
                device = torch.device(item)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"{type(self).__name__}.to: expected a floating dtype, got {dtype}")
        with torch.no_grad():
            for tensor in [*self.parameters(), *self.buffers()]:
                replace_value(tensor, tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None))
        return self

    def to_empty(self: M, device: torch.device | str) -> M:
        """Give every parameter and buffer memory on `device`, values undefined, no gradient: the way out of "meta"."""
        with torch.no_grad():
            for tensor in [*self.parameters(), *self.buffers()]:
                tensor.grad = None
                replace_value(tensor, torch.empty_like(tensor, device=device))
        return self

    def double(self: M) -> M:
        """`to(torch.float64)`."""
        return self.to(torch.float64)

    def float(self: M) -> M:
        """`to(torch.float32)`."""
        return self.to(torch.float32)

    def bfloat16(self: M) -> M:
        """`to(torch.bfloat16)`."""
        return self.to(torch.bfloat16)

    def extra_repr(self) -> str:
        """What stands between the parentheses of `repr`."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return "\n".join([head, *lines, ")"]) if lines else head + ")"


def walk(module: Any, path: str = "", seen: set[int] | None = None) -> list[tuple[str, Any]]:
    """A layer and all below it, parents first, with dotted names; those in `seen`, where given, are left out."""
    if seen is not None:
        if id(module) in seen:
            return []
        seen.add(id(module))
    found = [(path, module)]
    if isinstance(module, Module):
        for name, child in module.named_children():
            found += walk(child, f"{path}.{name}" if path else name, seen)
    return found


def unused_state(module: Any) -> set[str]:
    """The names of a `state_dict` that layers of the model name in their `unused_state`: they have no use for them."""
    return {f"{path}.{key}".strip(".") for path, layer in walk(module) for key in getattr(layer, "unused_state", ())}


def own_tensors(layer: Any, kind: str) -> list[tuple[str, Tensor]]:
    """The tensors of `kind` that are this layer's own, with names; numbers if a foreign layer has no names for them."""
    if isinstance(layer, Module):
        return layer._own_tensors(kind)
    if kind == "buffer":
        return []
    named = getattr(layer, "named_parameters", None)
    return [*named()] if named is not None else [(str(i), tensor) for i, tensor in enumerate(layer.parameters())]
