"""The arguments of one forward, named and in float64, and the random gradients to go back with."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ds_core.testing.named_tensors import align, floating_tensors, transform


class Call(NamedTuple):
    """The arguments of one forward by name, the first `positional` of them given by position.

    `constants` are the names of those that no gradient is asked for.
    """

    arguments: dict[str, Any]
    positional: int
    constants: frozenset[str]

    def differentiable(self) -> list[tuple[str, Any]]:
        """The arguments with a gradient, in order."""
        return [(k, v) for k, v in self.arguments.items() if k not in self.constants and floating_tensors(v, k)]

    def leaves(self) -> list[tuple[str, Tensor]]:
        """The tensors with a gradient, by name: `x`, `state[0]`."""
        return [leaf for name, value in self.differentiable() for leaf in floating_tensors(value, name)]

    def change(self, change: Callable[[str, Tensor], Tensor]) -> "Call":
        """The same call with each tensor replaced by `change(name of its argument, tensor)`."""
        changed = {name: transform(value, partial(change, name)) for name, value in self.arguments.items()}
        return self._replace(arguments=changed)

    def copy(self) -> "Call":
        return self.change(lambda _, tensor: tensor.clone())

    def run(self, function: Callable[..., Any]) -> Any:
        items = list(self.arguments.items())
        return function(*(value for _, value in items[: self.positional]), **dict(items[self.positional :]))


def make_call(
    layer: Any,
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    constants: Collection[int | str] = (),
) -> Call:
    """Name the arguments as `layer.forward` does; the tensors are copies, the floating ones in float64.

    Raises:
        ValueError: where `constants` names no argument.
    """
    given = dict(kwargs or {})
    try:
        names = list(inspect.signature(getattr(layer, "forward", layer)).bind(*inputs, **given).arguments)
    except (TypeError, ValueError):
        names = []
    if len(names) != len(inputs) + len(given):
        names = [str(index) for index in range(len(inputs))]
    arguments = {**dict(zip(names, inputs, strict=False)), **given}
    order = list(arguments)
    unknown = [name for name in constants if name not in order and name not in range(len(order))]
    if unknown:
        raise ValueError(f"constants={unknown}: no such argument; they are {order}")
    fixed = frozenset(order[name] if isinstance(name, int) else name for name in constants)
    return Call({name: transform(value, double) for name, value in arguments.items()}, len(inputs), fixed)


def double(tensor: Tensor) -> Tensor:
    """A copy, in float64 if it is floating."""
    return tensor.detach().clone().to(torch.float64 if tensor.is_floating_point() else tensor.dtype)


def random_gradients(output: Any, generator: torch.Generator) -> tuple[Any, ...]:
    """What to call backward with: normal draws in the structure of the outputs, None where one has no gradient."""

    def draw(tensor: Tensor) -> Tensor | None:
        if not tensor.is_floating_point():
            return None
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)

    whole = transform(output, draw)
    return tuple(whole) if isinstance(output, tuple) else (whole,)


def align_outputs(output: Any, gradients: tuple[Any, ...]) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Each floating output beside its gradient, as `backward(*gradients)` reads them: missing ones are None."""
    whole: Any = gradients[0] if gradients else None
    if isinstance(output, tuple):
        whole = (*gradients, *[None] * (len(output) - len(gradients)))
    return align(output, whole, "y")
