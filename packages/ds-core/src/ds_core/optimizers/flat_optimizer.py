"""The base class of optimizers that want speed: packs, chunks, and one set of step sizes for a compiled group.

Theory: docs/flat_buffers.md, docs/optimizer.md.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ds_core.optimizers.flat_buffers import Pack, Scratch, chunk_size, is_small, pack_up
from ds_core.optimizers.optimizer import BaseOptimizer
from ds_core.optimizers.optimizer_state import is_complete, own_memory
from ds_core.optimizers.parameter_groups import Parameters
from ds_core.optimizers.update_rule import (
    Direction,
    Options,
    State,
    StepSizes,
    Tensors,
    decay_,
    effective_gradient,
    move_,
)
from ds_core.speed.chunks import chunks
from ds_core.speed.plain import is_plain

# Attributes that `_forget_packs` makes anew: neither copied nor pickled.
REMADE = {"_scratch", "_packs", "_shared_scalars", "_traced"}


class FlatOptimizer(BaseOptimizer):
    """An optimizer that says how far a step goes (`step_sizes`) and where to (`direction`).

    With these two hooks many small parameters are updated at once, and a big one in chunks. `state_names`, and
    `scalars` if something is counted, say what is kept. Inside `with plain():` the method `update` runs in place of the
    hooks, on the same state: the same step as the paper writes it.

    Args:
        params, defaults: as for `BaseOptimizer`.
        flat: update small parameters together (docs/flat_buffers.md); the results are equal up to rounding.
    """

    def __init__(self, params: Parameters, defaults: dict[str, Any], *, flat: bool = True) -> None:
        super().__init__(params, defaults)
        self.flat = flat
        self._traced: list[StepSizes] = []
        self._forget_packs()

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        """What changes from step to step: r, the size of the step, and then whatever `direction` needs.

        Args:
            scalars: those that `self.scalars` names, to be brought up to date in place; `counted_` counts a "step".
        """
        raise NotImplementedError(f"{type(self).__name__} has no step_sizes")

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        """d, if the parameter is to become parameter - r d; updates `tensors` in place, element by element.

        Args:
            gradient: the effective gradient of one or many parameters or a chunk of one, of any shape; to be changed
                only if it is `out`.
            tensors: those that `state_names(group)` names, of the same shape.
            first: whether `tensors` are new.
            out: memory to work in, or None; may be `gradient` itself.

        Returns:
            d as a numerator and a denominator, or None for 1; each a new tensor, `gradient`, `out` or one of `tensors`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no direction")

    def _update_groups(self, ready: Sequence[Sequence[Tensor]]) -> None:
        has_plain_form = type(self).update is not BaseOptimizer.update
        if torch.compiler.is_compiling():
            # As outputs of the compiled graph the step sizes are computed once; the compiler would otherwise put their
            # formulas into the loops over elements, where powers and roots are then most of the work.
            traced: list[StepSizes] = []
            for index, parameters in enumerate(ready):
                traced += self._update_group_traced(index, parameters)
            self._traced = traced
        elif is_plain() and has_plain_form:
            if self._shared_scalars:
                self.unpack()
            super()._update_groups(ready)
        else:
            for index, parameters in enumerate(ready):
                self._update_group_eagerly(index, parameters)

    def _update_group_eagerly(self, index: int, ready: Sequence[Tensor]) -> None:
        group = self.param_groups[index]
        if index in self._shared_scalars:
            self.unpack()
        if self.flat:
            packs, ready = self._packs_for(index, ready)
            for pack in packs:
                gradient = pack.effective_gradient(group)
                step_sizes = pack.step_sizes(partial(self.step_sizes, group))
                direction = self.direction(gradient, pack.buffers, step_sizes, group, False, gradient)
                pack.move(direction, step_sizes[0], group)
        for parameter in ready:
            state, first = self._complete_state(parameter, group)
            step_sizes = self.step_sizes(group, [state[name] for name in self.scalars])
            self._update_alone(parameter, state, step_sizes, group, first)

    def _update_group_traced(self, index: int, ready: Sequence[Tensor]) -> list[StepSizes]:
        """The update inside a compiled graph: no packs, whose views slow it down; a whole group shares its scalars.

        Returns:
            The step sizes that were computed.
        """
        group = self.param_groups[index]
        if index in self._shared_scalars:
            self._separate_scalars(self._shared_scalars[index], group)
        known: list[tuple[Tensor | None, StepSizes]] = []
        for parameter in ready:
            state, first = self._complete_state(parameter, group)
            scalars = [state[name] for name in self.scalars]
            shared = scalars[0] if scalars else None  # and with it the others
            found = [step_sizes for other, step_sizes in known if other is shared]
            if not found:
                found = [self.step_sizes(group, scalars)]
                known.append((shared, found[0]))
            self._update_alone(parameter, state, found[0], group, first)
        return [step_sizes for _, step_sizes in known]

    def _separate_scalars(self, shared: Mapping[str, Tensor], group: Options) -> None:
        """A parameter without a gradient in this step gets its own copy of the step count."""
        for parameter in group["params"]:
            state = self.state.get(parameter, {})
            if parameter.grad is None and all(state.get(name) is scalar for name, scalar in shared.items()):
                state.update({name: scalar.clone() for name, scalar in shared.items()})

    def _update_alone(
        self, parameter: Tensor, state: State, step_sizes: StepSizes, group: Options, first: bool
    ) -> None:
        assert parameter.grad is not None
        tensors = [parameter, parameter.grad, *[state[name] for name in self.state_names(group)]]
        compiling = torch.compiler.is_compiling()
        if compiling:  # a graph forgets what is written into a float64 number on the CPU, though not into a view of it
            tensors = [tensor.view(1) if tensor.dim() == 0 else tensor for tensor in tensors]
        for part, part_gradient, *part_tensors in chunks(tensors, chunk_size(parameter.device)):
            work = None if compiling else self._scratch.like(part)
            gradient = effective_gradient(part_gradient, part, group, out=work)
            direction = self.direction(gradient, part_tensors, step_sizes, group, first, work)
            decay_(part, group)
            move_(part, direction, step_sizes[0])

    def _packs_for(self, index: int, ready: Sequence[Tensor]) -> tuple[list[Pack], list[Tensor]]:
        """Of the parameters `ready` in group `index`: the packs to update together, and those to update alone."""
        names = self.state_names(self.param_groups[index])
        packs = [pack for pack in self._packs.get(index, []) if pack.intact(self.state, names)]
        packed = {id(parameter) for pack in packs for parameter in pack.parameters}
        settled = [
            parameter
            for parameter in ready
            if id(parameter) not in packed
            and is_small(parameter, len(names))
            and is_complete(self.state.get(parameter, {}), parameter, names, self.scalars)
        ]
        packs += pack_up(settled, self.state, names, self.scalars, self._scratch)
        self._packs[index] = packs
        present = {id(parameter) for parameter in ready}
        usable = [pack for pack in packs if all(id(parameter) in present for parameter in pack.parameters)]
        together = {id(parameter) for pack in usable for parameter in pack.parameters}
        return usable, [parameter for parameter in ready if id(parameter) not in together]

    def unpack(self) -> None:
        """Give every tensor of the state memory of its own; the next eager step packs again."""
        for key, entries in self.state.items():
            if isinstance(key, Tensor):
                entries.update(own_memory(entries, self.scalars))
        self._forget_packs()

    def prepare_compile(self) -> None:
        """Make all state now, so that the first compiled step is like the others; unpacked, and one count a group.

        Call it before compiling a function that calls `step`, after any `load_state_dict`.
        """
        self.unpack()
        super().prepare_compile()
        for index, group in enumerate(self.param_groups):
            trained = [parameter for parameter in group["params"] if parameter.requires_grad]
            if self.first_differs(group) or not self.scalars:
                continue
            states = [self.state[parameter] for parameter in trained]
            if len({tuple(state[name].item() for name in self.scalars) for state in states}) == 1:
                self._shared_scalars[index] = {name: states[0][name] for name in self.scalars}
                for state in states:
                    state.update(self._shared_scalars[index])

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._forget_packs()

    def _forget_packs(self) -> None:
        self._scratch = Scratch()
        self._packs: dict[int, list[Pack]] = {}  # by index of the group, as the next
        self._shared_scalars: dict[int, dict[str, Tensor]] = {}
        self._traced = []

    def __getstate__(self) -> dict[str, Any]:
        kept = super().__getstate__()
        return {name: value for name, value in kept.items() if name not in REMADE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_packs()
