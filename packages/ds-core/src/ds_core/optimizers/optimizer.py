"""The base class of optimizers: groups, state, and the order of a step. Theory: docs/optimizer.md."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ds_core.errors import ShapeError
from ds_core.optimizers.flat_buffers import Pack, Scratch, State, is_small, pack_up, piece_size
from ds_core.optimizers.optimizer_state import complete_state, from_state_dict, is_complete, own_memory, to_state_dict
from ds_core.optimizers.parameter_groups import Parameters, as_groups, complete_group
from ds_core.optimizers.update_rule import Direction, Options, Sizes, move_, seen_gradient
from ds_core.speed.chunks import pieces

# What torch.optim's groups hold beside the options that change the mathematics: kept so that it takes our state_dict.
MACHINERY = {"foreach": None, "fused": None, "capturable": False, "differentiable": False}


class BaseOptimizer:
    """Moves parameters against their `.grad`, which any engine may have written.

    A subclass says what may stand in a group of options (`check`), which tensors it keeps for a parameter
    (`moments`, `numbers`), how far a step goes (`sizes`) and where to (`direction`). Weight decay, `maximize`, flat
    buffers and `state_dict` are done here. `param_groups`, `state` and the keys of `state_dict()` are torch.optim's.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts {"params": ..., option: value}.
        defaults: the options of a group that does not set them.
        flat: update small parameters together (docs/flat_buffers.md); the results are equal up to rounding.

    Raises:
        TypeError, ValueError: `params` is no such thing, is empty or names a tensor twice; an option is impossible.
    """

    # What is kept for a parameter beside the moments, as one float32 number each on the CPU, and what it starts as:
    # under "step" the number of its updates.
    numbers: ClassVar[Mapping[str, float]] = {}
    elementwise = True  # whether `direction` works element by element, so that parameters may be packed and cut
    fixed: ClassVar[Mapping[str, Any]] = {}  # options that a loaded state does not change

    def __init__(self, params: Parameters, defaults: dict[str, Any], *, flat: bool = True) -> None:
        self.defaults = {**defaults, **MACHINERY}
        self.flat = flat
        self.state: defaultdict[Any, State] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._traced_sizes: list[Sizes] = []
        self._forget_packs()
        self.check(self.defaults)
        for group in as_groups(params):
            self.add_param_group(group)

    def check(self, group: Options) -> None:
        """Raise ValueError where an option of `group` is impossible."""
        raise NotImplementedError(f"{type(self).__name__} has no check")

    def moments(self, group: Options) -> Sequence[str]:
        """The names of the tensors kept for each parameter, of its shape."""
        raise NotImplementedError(f"{type(self).__name__} has no moments")

    def start(self, name: str, group: Options) -> float:
        """What each element of moment `name` is before the first step."""
        return 0.0

    def sizes(self, group: Options, numbers: Sequence[Tensor]) -> Sizes:
        """What changes from step to step: r, the size of the step, and then whatever `direction` needs.

        Args:
            numbers: those that `self.numbers` names, to be brought up to date in place; `counted_` counts a "step".
        """
        raise NotImplementedError(f"{type(self).__name__} has no sizes")

    def direction(
        self, gradient: Tensor, moments: Sequence[Tensor], sizes: Sizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        """d, where the parameter is to become parameter - r d; updates `moments` in place, element by element.

        Args:
            gradient: what the optimizer takes for the gradient, of one or many parameters or a piece of one, of any
                shape; to be changed only if it is `out`.
            moments: those that `moments(group)` names, of the same shape.
            first: whether `moments` are new.
            out: memory to work in, or None; may be `gradient` itself.

        Returns:
            d as a numerator and a denominator, or None for 1; each a new tensor, `gradient`, `out` or one of `moments`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no direction")

    def first_differs(self, group: Options) -> bool:
        """Whether `direction` does otherwise with new moments than with old ones that hold the same."""
        return False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, `{"params": ..., option: value}`, as when layers are unfrozen during training."""
        group = complete_group(param_group, self.defaults, self.param_groups)
        self.check(group)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.requires_grad_(False).zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a `.grad`. Returns what `closure`, called first where given, returns.

        Raises:
            ShapeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            traced: list[Sizes] = []
            for index, group in enumerate(self.param_groups):
                ready = [parameter for parameter in group["params"] if self._dense_gradient(parameter) is not None]
                if torch.compiler.is_compiling():
                    traced += self._step_traced(index, ready)
                else:
                    self._step_eagerly(index, ready)
            # As outputs of the compiled graph the sizes are computed once; the compiler would otherwise put their
            # formulas into the loops over elements, where powers and roots are then most of the work.
            self._traced_sizes = traced
        return loss

    def _step_eagerly(self, index: int, ready: list[Tensor]) -> None:
        group = self.param_groups[index]
        if index in self._shared_numbers:
            self.unpack()
        if self.flat and self.elementwise:
            packs, ready = self._packs_for(index, ready)
            for pack in packs:
                seen = pack.seen_gradient(group)
                sizes = pack.sizes(partial(self.sizes, group))
                direction = self.direction(seen, pack.moments, sizes, group, False, seen)
                pack.move(direction, sizes[0], group)
        for parameter in ready:
            state, first = self._complete_state(parameter, group)
            sizes = self.sizes(group, [state[name] for name in self.numbers])
            self._step_alone(parameter, state, sizes, group, first)

    def _step_traced(self, index: int, ready: list[Tensor]) -> list[Sizes]:
        """The step inside a compiled graph: no packs, whose views slow it down; a whole group shares its numbers.

        Returns:
            The sizes that were computed.
        """
        group = self.param_groups[index]
        if index in self._shared_numbers:
            self._keep_numbers(self._shared_numbers[index], group)
        known: list[tuple[Tensor | None, Sizes]] = []
        for parameter in ready:
            state, first = self._complete_state(parameter, group)
            numbers = [state[name] for name in self.numbers]
            shared = numbers[0] if numbers else None  # and with it the others
            found = [sizes for other, sizes in known if other is shared]
            if not found:
                found = [self.sizes(group, numbers)]
                known.append((shared, found[0]))
            self._step_alone(parameter, state, found[0], group, first)
        return [sizes for _, sizes in known]

    def _keep_numbers(self, shared: Mapping[str, Tensor], group: Options) -> None:
        """Who has no gradient now stops sharing the numbers of the others."""
        for parameter in group["params"]:
            state = self.state.get(parameter, {})
            if parameter.grad is None and all(state.get(name) is number for name, number in shared.items()):
                state.update({name: number.clone() for name, number in shared.items()})

    def _step_alone(self, parameter: Tensor, state: State, sizes: Sizes, group: Options, first: bool) -> None:
        assert parameter.grad is not None
        tensors = [parameter, parameter.grad, *[state[name] for name in self.moments(group)]]
        compiling = torch.compiler.is_compiling()
        if compiling:  # a graph forgets what is written into a float64 number on the CPU, though not into a view of it
            tensors = [tensor.view(1) if tensor.dim() == 0 else tensor for tensor in tensors]
        parts = pieces(tensors, piece_size(parameter.device)) if self.elementwise else [tensors]
        for part, gradient, *part_moments in parts:
            work = None if compiling else self._scratch.like(part)
            seen = seen_gradient(gradient, part, group, out=work)
            direction = self.direction(seen, part_moments, sizes, group, first, work)
            move_(part, direction, sizes[0], group)

    def _packs_for(self, index: int, ready: list[Tensor]) -> tuple[list[Pack], list[Tensor]]:
        """Of the parameters `ready` in group `index`: the packs to update together, and those to update alone."""
        names = self.moments(self.param_groups[index])
        packs = [pack for pack in self._packs.get(index, []) if pack.intact(self.state, names)]
        packed = {id(parameter) for pack in packs for parameter in pack.parameters}
        settled = [
            parameter
            for parameter in ready
            if id(parameter) not in packed
            and is_small(parameter, len(names))
            and is_complete(self.state.get(parameter, {}), parameter, names, self.numbers)
        ]
        packs += pack_up(settled, self.state, names, self.numbers, self._scratch)
        self._packs[index] = packs
        present = {id(parameter) for parameter in ready}
        usable = [pack for pack in packs if all(id(parameter) in present for parameter in pack.parameters)]
        together = {id(parameter) for pack in usable for parameter in pack.parameters}
        return usable, [parameter for parameter in ready if id(parameter) not in together]

    def _dense_gradient(self, parameter: Tensor) -> Tensor | None:
        gradient = parameter.grad
        if gradient is not None and gradient.layout != torch.strided:
            raise ShapeError(
                f"{type(self).__name__} does not support sparse gradients: given one of layout {gradient.layout} "
                f"for a parameter of shape {tuple(parameter.shape)}"
            )
        return gradient

    def _complete_state(self, parameter: Tensor, group: Options) -> tuple[State, bool]:
        """The state of `parameter`, nothing lacking, and whether something was."""
        names = self.moments(group)
        state: State = self.state[parameter] if names or self.numbers else {}
        moments = {name: self.start(name, group) for name in names}
        lacked = complete_state(state, parameter, moments, self.numbers)
        return state, lacked or not state

    def unpack(self) -> None:
        """Give every tensor of the state memory of its own; the next eager step packs again."""
        for key, entries in self.state.items():
            if isinstance(key, Tensor):
                entries.update(own_memory(entries, self.numbers))
        self._forget_packs()

    def prepare_compile(self) -> None:
        """Make all state now, so that the first compiled step is like the others; unpacked, and one count a group.

        Call it before compiling a function that calls `step`, after any `load_state_dict`.
        """
        self.unpack()
        for index, group in enumerate(self.param_groups):
            if self.first_differs(group):
                continue
            trained = [parameter for parameter in group["params"] if parameter.requires_grad]
            states = [self._complete_state(parameter, group)[0] for parameter in trained]
            if self.numbers and len({tuple(state[name].item() for name in self.numbers) for state in states}) == 1:
                self._shared_numbers[index] = {name: states[0][name] for name in self.numbers}
                for state in states:
                    state.update(self._shared_numbers[index])

    def _forget_packs(self) -> None:
        self._scratch = Scratch()
        self._packs: dict[int, list[Pack]] = {}  # by number of the group, as the next
        self._shared_numbers: dict[int, dict[str, Tensor]] = {}

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number: {name: tensor}}, "param_groups": [...]}, as torch.optim's and exchangeable with it.

        As there, the moments are the optimizer's own, which later steps change: copy.deepcopy keeps a snapshot.
        """
        return to_state_dict(self.param_groups, self.state, self.numbers)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over copies of the state and the options of another optimizer, ours or torch.optim's.

        Tensors take dtype and device of their parameters; a learning rate that is a tensor here stays that tensor
        and takes the loaded value.

        Raises:
            ValueError: other numbers of groups or parameters, a tensor of another shape than its parameter, or an
                impossible option; nothing has been changed then.
        """
        options, state = from_state_dict(state_dict, self.param_groups, self.numbers)
        for group, loaded in zip(self.param_groups, options, strict=True):
            loaded.update(self.fixed)
            self.check({**group, **loaded})
        for group, loaded in zip(self.param_groups, options, strict=True):
            lr = group.get("lr")
            if isinstance(lr, Tensor) and "lr" in loaded:
                loaded["lr"] = lr.fill_(loaded["lr"])
            group.update(loaded)
        self.state = state
        self._forget_packs()

    def __getstate__(self) -> dict[str, Any]:
        state = defaultdict(dict, {key: own_memory(entries, self.numbers) for key, entries in self.state.items()})
        return {"defaults": self.defaults, "flat": self.flat, "param_groups": self.param_groups, "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_packs()

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name not in {"params", *MACHINERY}]
        return "\n".join([*lines, ")"])
