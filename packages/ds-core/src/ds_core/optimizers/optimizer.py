"""The base class of optimizers: groups, state, and the order of a step. Theory: docs/optimizer.md."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ds_core.errors import ShapeError
from ds_core.optimizers.first_step import FirstStep
from ds_core.optimizers.optimizer_state import complete_state, from_state_dict, own_memory, snapshot, to_state_dict
from ds_core.optimizers.parameter_groups import (
    Parameters,
    as_groups,
    check_at_least_zero,
    check_learning_rate,
    complete_group,
)
from ds_core.optimizers.update_rule import Options, State, decay_, effective_gradient, number

# What torch.optim's groups hold beside the options that change the mathematics: kept so that it takes our state_dict.
MACHINERY = {"foreach": None, "fused": None, "capturable": False, "differentiable": False}


class BaseOptimizer:
    """Moves parameters against their `.grad`, which any engine may have written.

        class SignDescent(BaseOptimizer):
            def update(self, parameter, gradient, state, group):
                parameter -= group["lr"] * torch.sign(gradient)

        optimizer = SignDescent(model.parameters(), {"lr": 0.01, "weight_decay": 0.1})

    A subclass writes `update`, and nothing else if it likes. Weight decay, `maximize`, groups and `state_dict` are done
    here; `FlatOptimizer` has hooks for speed. `param_groups`, `state` and the keys of `state_dict()` are torch.optim's.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts {"params": ..., option: value}.
        defaults: the options of a group that does not set them.

    Raises:
        TypeError, ValueError: `params` is no such thing, is empty or names a tensor twice; an option is impossible.
    """

    # Numbers that are kept for each parameter and change from step to step, each a float32 tensor of no dimensions on
    # the CPU, and what they begin as: {"step": 0.0} counts updates.
    scalars: ClassVar[Mapping[str, float]] = {}
    fixed: ClassVar[Mapping[str, Any]] = {}  # options that a loaded state does not change
    _moves = False  # whether an `update` is known to have changed a parameter

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        self.defaults = {**defaults, **MACHINERY}
        self.state: defaultdict[Any, State] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self.check(self.defaults)
        for group in as_groups(params):
            self.add_param_group(group)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        """One step for one parameter, which is changed in place; called with autograd off.

        Args:
            gradient: the effective gradient: with the sign turned if the group says `maximize`, and with weight decay
                added. Decoupled decay has shrunk the parameter already. Not to be changed.
            state: what is kept for the parameter from step to step: tensors and numbers, by name. Empty before the
                first step, except for what `state_names` and `scalars` name.
            group: its options; a learning rate that is a tensor comes as a Python number, or on a GPU and in a compiled
                step as a tensor of no dimensions.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update(parameter, gradient, state, group)")

    def check(self, group: Options) -> None:
        """Raise ValueError if an option of `group` is impossible."""
        if "lr" in group:
            check_learning_rate(group["lr"])
        check_at_least_zero("weight_decay value", group.get("weight_decay", 0))

    def state_names(self, group: Options) -> Sequence[str]:
        """The names of tensors in `state` that are made beforehand, of the parameter's shape, dtype and device."""
        return ()

    def start(self, name: str, group: Options) -> float:
        """What each element of the tensor `name` is before the first step."""
        return 0.0

    def first_differs(self, group: Options) -> bool:
        """Whether a first step differs from later ones; the tensors of `state_names` are then not made beforehand."""
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
        """Update every parameter that has a `.grad`. Returns the result of `closure`, which is called first if given.

        Raises:
            ShapeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            self._update_groups([[p for p in group["params"] if self._has_gradient(p)] for group in self.param_groups])
        return loss

    def _update_groups(self, ready: Sequence[Sequence[Tensor]]) -> None:
        """Update the parameters that have a gradient, given by group, one after the other.

        Raises:
            TypeError: no parameter has changed in the first step.
        """
        stays = FirstStep() if not self._moves and not torch.compiler.is_compiling() else None
        for group, parameters in zip(self.param_groups, ready, strict=True):
            options = {**group, "lr": number(group["lr"])} if "lr" in group else group
            for parameter in parameters:
                assert parameter.grad is not None
                state = self._state_for_update(parameter, group)
                gradient = effective_gradient(parameter.grad, parameter, group)
                if torch.compiler.is_compiling():
                    state = self._update_one_traced(parameter, gradient, state, options)
                else:
                    decay_(parameter, options)
                    before = None if stays is None else stays.before(parameter)
                    self.update(parameter, gradient, state, options)
                    if stays is not None:
                        stays.after(parameter, before, gradient, options)
                if state:
                    self.state[parameter] = state
        if stays is not None:
            self._moves = stays.moved(type(self).__name__)

    def _update_one_traced(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> State:
        """Decay and `update` inside a compiled graph; returns the new state.

        A graph forgets what is written into a float64 number on the CPU, though not into a view of it: numbers are
        copied, and the parameter is copied back.

        Raises:
            TypeError: a Python number in the state has changed.
        """
        moved = parameter.clone() if parameter.dim() == 0 else parameter
        after = {
            name: value.clone() if isinstance(value, Tensor) and value.dim() == 0 else value
            for name, value in state.items()
        }
        decay_(moved, group)
        self.update(moved, gradient, after, group)
        if parameter.dim() == 0:
            parameter.view(1).copy_(moved.view(1))
        for name, value in after.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_number and state.get(name, value) != value:  # no !r below: the compiler of torch 2.9 loses it
                raise TypeError(
                    f"{type(self).__name__}: state['{name}'] is a Python number that changes, and a compiled step "
                    "would be compiled again for each of its values. Write "
                    f"`scalars = {{'{name}': 0.0}}` in the class, with what it begins as, and it is a tensor"
                )
        return after

    def _has_gradient(self, parameter: Tensor) -> bool:
        gradient = parameter.grad
        if gradient is not None and gradient.layout != torch.strided:
            raise ShapeError(
                f"{type(self).__name__} does not support sparse gradients: given one of layout {gradient.layout} "
                f"for a parameter of shape {tuple(parameter.shape)}"
            )
        return gradient is not None

    def _complete_state(self, parameter: Tensor, group: Options) -> tuple[State, bool]:
        """The state of `parameter`, nothing lacking, and whether something was."""
        names = self.state_names(group)
        state: State = self.state[parameter] if names or self.scalars else {}
        tensors = {name: self.start(name, group) for name in names}
        lacked = complete_state(state, parameter, tensors, self.scalars)
        return state, lacked or not state

    def _state_for_update(self, parameter: Tensor, group: Options) -> State:
        state = self.state.get(parameter, {})
        names = self.state_names(group)
        if self.first_differs(group):
            names = [name for name in names if state.get(name) is not None]
        complete_state(state, parameter, {name: self.start(name, group) for name in names}, self.scalars)
        return state

    def prepare_compile(self) -> None:
        """Make all state that can be made beforehand, so that the first compiled step is like the others.

        Call it before compiling a function that calls `step`, after any `load_state_dict`.
        """
        for group in self.param_groups:
            if not self.first_differs(group):
                for parameter in group["params"]:
                    if parameter.requires_grad:
                        self._complete_state(parameter, group)

    def state_dict(self) -> dict[str, Any]:
        """{"state": {index: {name: value}}, "param_groups": [...]}, as torch.optim's and exchangeable with it.

        A snapshot: all of it is copied, and later steps leave it alone (in torch.optim the tensors are the optimizer's
        own).
        """
        return to_state_dict(self.param_groups, self.state, snapshot)

    def live_state_dict(self) -> dict[str, Any]:
        """`state_dict()` with the optimizer's own tensors, not copied: to be written down before the next step."""

        def keep(value: Any) -> Any:  # a step count may be shared by parameters, and is written for each
            return value.clone() if isinstance(value, Tensor) and value.dim() == 0 else value

        return to_state_dict(self.param_groups, self.state, keep)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over copies of the state and the options of another optimizer, ours or torch.optim's.

        Tensors named by `state_names` take dtype and device of their parameters; a learning rate that is a tensor here
        stays that tensor and takes the loaded value.

        Raises:
            ValueError: other numbers of groups or parameters, a tensor of another shape than its parameter, or an
                impossible option; nothing has been changed then.
        """
        options, state = from_state_dict(state_dict, self.param_groups, self._names_if_possible, self.scalars)
        for group, loaded in zip(self.param_groups, options, strict=True):
            loaded.update(self.fixed)
            lr = group.get("lr")
            if isinstance(lr, Tensor) and "lr" in loaded:
                loaded["lr"] = lr.fill_(loaded["lr"])
            group.update(loaded)
        self.state = state

    def _names_if_possible(self, group: Options) -> Sequence[str]:
        options = {**group, **self.fixed}
        self.check(options)
        return self.state_names(options)

    def __getstate__(self) -> dict[str, Any]:
        state = defaultdict(dict, {key: own_memory(entries, self.scalars) for key, entries in self.state.items()})
        return {**self.__dict__, "state": state}

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name not in {"params", *MACHINERY}]
        return "\n".join([*lines, ")"])
