"""Many small parameters updated as one, and big ones chunk by chunk. Theory: docs/flat_buffers.md.

Each call of a tensor operation costs about a microsecond, whatever the size, and an optimizer makes seven or so for
every parameter. So the state tensors of small parameters lie side by side in flat buffers; their gradients are gathered
in one call, the formulas run once over all of them, and one call brings the result to the parameters, which stay where
they are. A big parameter is updated in chunks instead, so that temporaries stay in the cache.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ds_core.optimizers.update_rule import (
    Direction,
    Number,
    Options,
    State,
    StepSizes,
    decay_all_,
    effective_gradients_,
    move_all_,
)

# P = parameters in a pack, N = their elements in all


def chunk_size(device: torch.device) -> int:
    """How many elements a pack has at most, and a chunk of a big parameter: a GPU wants few, large calls.

    On a CPU five such tensors are ten megabytes, more than a core's own cache holds. Smaller ones were slower by trial,
    because each pack or chunk takes calls of its own: AdamW on a GPT of 0.8 M parameters took 3.7 ms with 2^16, 3.3
    with 2^17, 3.1 with 2^18 and 2.9 with 2^19.
    """
    return 2**19 if device.type == "cpu" else 2**22


def is_small(tensor: Tensor, state_tensors: int) -> bool:
    """Whether packing `tensor` pays: to gather its gradient costs one pass, each state tensor spares several calls.

    The limits, 16 K elements for one state tensor and 64 K for two, were found by trial.
    """
    return 0 < tensor.numel() <= 2**14 * max(state_tensors, 1) ** 2


class Scratch:
    """Memory to work in, one chunk for each dtype and device, made when first asked for."""

    def __init__(self) -> None:
        self.memory: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def flat(self, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """`count` elements, at most a chunk; whoever asks next gets the same memory."""
        if (dtype, device) not in self.memory:
            self.memory[dtype, device] = torch.empty(chunk_size(device), dtype=dtype, device=device)
        return self.memory[dtype, device][:count]

    def like(self, tensor: Tensor) -> Tensor | None:
        """Memory of the shape of `tensor`; None if that is more than a chunk, or so little that any memory does."""
        if not 2**16 < tensor.numel() <= chunk_size(tensor.device):
            return None
        return self.flat(tensor.numel(), tensor.dtype, tensor.device).view(tensor.shape)


class Pack:
    """Small parameters of one dtype and device, with their state tensors in flat buffers.

    What `states` hold under `names` and `scalars` is moved into the buffers and becomes views of them.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        states: Sequence[State],
        names: Sequence[str],
        scalars: Iterable[str],
        scratch: Scratch,
    ) -> None:
        self.parameters = list(parameters)
        self.shapes = [parameter.shape for parameter in parameters]
        self.states = list(states)
        self.names = tuple(names)
        self.buffers = [torch.cat([state[name].reshape(-1) for state in states]) for name in names]  # each (N,)
        self.views = {name: self._split(flat) for name, flat in zip(names, self.buffers, strict=True)}
        size = sum(parameter.numel() for parameter in parameters)
        self.gradient = scratch.flat(size, parameters[0].dtype, parameters[0].device)  # (N,)
        self.gradients = self._split(self.gradient)
        self.scalars = {name: torch.stack([state[name] for state in states]) for name in scalars}  # each (P,)
        self.views.update({name: list(stacked.unbind()) for name, stacked in self.scalars.items()})
        for name, views in self.views.items():
            for state, view in zip(states, views, strict=True):
                state[name] = view

    def _split(self, flat: Tensor) -> list[Tensor]:
        """Views of `flat` (N,) in the shapes of the parameters."""
        ends = [0]
        for shape in self.shapes:
            ends.append(ends[-1] + shape.numel())
        return [flat[start:end].view(shape) for start, end, shape in zip(ends, ends[1:], self.shapes, strict=False)]

    def intact(self, states: Mapping[Tensor, State], names: Sequence[str]) -> bool:
        """Whether all is as it was packed: nothing moved, cast, loaded, reset or replaced, all scalars alike."""
        dtype, device = self.gradient.dtype, self.gradient.device
        return (
            self.names == tuple(names)
            and all(
                parameter.dtype == dtype and parameter.device == device and parameter.shape == shape
                for parameter, shape in zip(self.parameters, self.shapes, strict=True)
            )
            and (not self.views or all(map(is_, map(states.get, self.parameters), self.states)))
            and all(
                state.get(name) is view
                for name, views in self.views.items()
                for state, view in zip(self.states, views, strict=True)
            )
            and all(len(set(stacked.tolist())) == 1 for stacked in self.scalars.values())
        )

    def effective_gradient(self, group: Options) -> Tensor:
        """The effective gradients side by side (N,), in memory that later calls overwrite."""
        torch._foreach_copy_(self.gradients, [p.grad for p in self.parameters if p.grad is not None])
        effective_gradients_(self.gradients, self.parameters, group)
        return self.gradient

    def move(self, direction: Direction, step_size: Number, group: Options) -> None:
        """Decoupled decay, and then each parameter by its part of `direction` (N,)."""
        decay_all_(self.parameters, group)
        numerator, denominator = direction
        denominators = None if denominator is None else self._parts(denominator)
        move_all_(self.parameters, self._parts(numerator), denominators, step_size)

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """`_split(flat)`, which is there already for `gradient` and the buffers."""
        known = {id(self.gradient): self.gradients}
        known.update({id(buffer): self.views[name] for name, buffer in zip(self.names, self.buffers, strict=True)})
        return known.get(id(flat)) or self._split(flat)

    def step_sizes(self, of_scalars: Callable[[list[Tensor]], StepSizes]) -> StepSizes:
        """What `of_scalars` makes of one parameter's scalars, which it brings up to date; the others' follow."""
        first = [self.views[name][0] for name in self.scalars]
        step_sizes = of_scalars(first)
        for stacked, scalar in zip(self.scalars.values(), first, strict=True):
            stacked.fill_(scalar)
        return step_sizes


def pack_up(
    parameters: Sequence[Tensor],
    states: Mapping[Tensor, State],
    names: Sequence[str],
    scalars: Collection[str],
    scratch: Scratch,
) -> list[Pack]:
    """Packs of those `parameters` that have company of equal dtype, device and scalars, such as the step count."""
    alike: dict[Any, list[list[Tensor]]] = {}
    for parameter in parameters:
        kept = [states[parameter][name].item() for name in scalars]
        packs = alike.setdefault((parameter.dtype, parameter.device, *kept), [[]])
        if sum(other.numel() for other in packs[-1]) + parameter.numel() > chunk_size(parameter.device):
            packs.append([])
        packs[-1].append(parameter)
    return [
        Pack(members, [states.get(member, {}) for member in members], names, scalars, scratch)
        for packs in alike.values()
        for members in packs
        if len(members) > 1
    ]
