"""Many small parameters updated as one, and big ones piece by piece. Theory: docs/flat_buffers.md.

Each call of a tensor operation costs about a microsecond, whatever the size, and an optimizer makes seven or so for
every parameter. So the moments of small parameters lie side by side in flat buffers; their gradients are gathered in
one call, the formulas run once over all of them, and one call brings the result to the parameters, which stay where
they are. A big parameter is updated in pieces instead, so that temporaries stay in the cache.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ds_core.optimizers.update_rule import Direction, Number, Options, Sizes, move_all_, seen_gradients_

State = dict[str, Any]  # of one parameter: its moments, and numbers such as "step"

# P = parameters in a pack, N = their elements in all


def piece_size(device: torch.device) -> int:
    """How many elements a pack has at most, and a piece of a big parameter: a GPU wants few, large calls.

    On a CPU five such tensors are ten megabytes, more than a core's own cache holds. Smaller ones were slower by trial,
    for all of a pack or piece is done in calls of its own: AdamW on a GPT of 0.8 M parameters took 3.7 ms with 2^16,
    3.3 with 2^17, 3.1 with 2^18 and 2.9 with 2^19.
    """
    return 2**19 if device.type == "cpu" else 2**22


def is_small(tensor: Tensor, moments: int) -> bool:
    """Whether packing `tensor` pays: gathering its gradient costs one more pass, each moment spares several calls.

    The limits, 16 K elements for one moment and 64 K for two, were found by trial.
    """
    return 0 < tensor.numel() <= 2**14 * max(moments, 1) ** 2


class Scratch:
    """Memory to work in, one piece for each dtype and device, made when first asked for."""

    def __init__(self) -> None:
        self.memory: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def flat(self, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """`count` elements, at most a piece; whoever asks next gets the same memory."""
        if (dtype, device) not in self.memory:
            self.memory[dtype, device] = torch.empty(piece_size(device), dtype=dtype, device=device)
        return self.memory[dtype, device][:count]

    def like(self, tensor: Tensor) -> Tensor | None:
        """Memory of the shape of `tensor`; None where that is more than a piece, or so little that any memory does."""
        if not 2**16 < tensor.numel() <= piece_size(tensor.device):
            return None
        return self.flat(tensor.numel(), tensor.dtype, tensor.device).view(tensor.shape)


class Pack:
    """Small parameters of one dtype and device, with their moments in flat buffers.

    What `states` hold under `names` and `numbers` is moved into the buffers and becomes views of them.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        states: Sequence[State],
        names: Sequence[str],
        numbers: Iterable[str],
        scratch: Scratch,
    ) -> None:
        self.parameters = list(parameters)
        self.shapes = [parameter.shape for parameter in parameters]
        self.states = list(states)
        self.names = tuple(names)
        self.moments = [torch.cat([state[name].reshape(-1) for state in states]) for name in names]  # each (N,)
        self.views = {name: self._split(flat) for name, flat in zip(names, self.moments, strict=True)}
        size = sum(parameter.numel() for parameter in parameters)
        self.gradient = scratch.flat(size, parameters[0].dtype, parameters[0].device)  # (N,)
        self.gradients = self._split(self.gradient)
        self.numbers = {name: torch.stack([state[name] for state in states]) for name in numbers}  # each (P,)
        self.views.update({name: list(stacked.unbind()) for name, stacked in self.numbers.items()})
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
        """Whether all is as it was packed: nothing moved, cast, loaded, reset or replaced, all numbers alike."""
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
            and all(len(set(stacked.tolist())) == 1 for stacked in self.numbers.values())
        )

    def seen_gradient(self, group: Options) -> Tensor:
        """What the optimizer takes for the gradient, side by side (N,), in memory that later calls overwrite."""
        torch._foreach_copy_(self.gradients, [p.grad for p in self.parameters if p.grad is not None])
        seen_gradients_(self.gradients, self.parameters, group)
        return self.gradient

    def move(self, direction: Direction, size: Number, group: Options) -> None:
        """Each parameter by its part of `direction` (N,)."""
        numerator, denominator = direction
        denominators = None if denominator is None else self._parts(denominator)
        move_all_(self.parameters, self._parts(numerator), denominators, size, group)

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """`_split(flat)`, which is there already for `gradient` and the moments."""
        known = {id(self.gradient): self.gradients}
        known.update({id(moment): self.views[name] for name, moment in zip(self.names, self.moments, strict=True)})
        return known.get(id(flat)) or self._split(flat)

    def sizes(self, of_numbers: Callable[[list[Tensor]], Sizes]) -> Sizes:
        """What `of_numbers` makes of the numbers of one parameter, which it brings up to date; the others' follow."""
        first = [self.views[name][0] for name in self.numbers]
        sizes = of_numbers(first)
        for stacked, number in zip(self.numbers.values(), first, strict=True):
            stacked.fill_(number)
        return sizes


def pack_up(
    parameters: Sequence[Tensor],
    states: Mapping[Tensor, State],
    names: Sequence[str],
    numbers: Collection[str],
    scratch: Scratch,
) -> list[Pack]:
    """Packs for those of `parameters` that have company of equal dtype, device and numbers, as that of updates."""
    alike: dict[Any, list[list[Tensor]]] = {}
    for parameter in parameters:
        kept = [states[parameter][name].item() for name in numbers]
        packs = alike.setdefault((parameter.dtype, parameter.device, *kept), [[]])
        if sum(other.numel() for other in packs[-1]) + parameter.numel() > piece_size(parameter.device):
            packs.append([])
        packs[-1].append(parameter)
    return [
        Pack(members, [states.get(member, {}) for member in members], names, numbers, scratch)
        for packs in alike.values()
        for members in packs
        if len(members) > 1
    ]
