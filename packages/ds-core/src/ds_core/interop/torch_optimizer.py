"""An optimizer of ours as a torch.optim.Optimizer, for what accepts no other. Theory: docs/interop.md."""

from collections.abc import Callable, Mapping
from typing import Any

import torch


class TorchOptimizer(torch.optim.Optimizer):
    """What `as_torch_optimizer` returns. Groups, state and steps are those of `wrapped`, whichever is looked at."""

    def __init__(self, wrapped: Any) -> None:
        super().__init__([dict(group) for group in wrapped.param_groups], dict(wrapped.defaults))
        self.wrapped = wrapped
        # found in `wrapped` from now on, which may replace its own
        del self.__dict__["param_groups"], self.__dict__["state"]

    def __getattr__(self, name: str) -> Any:
        """What this object does not have, its optimizer has."""
        if name == "wrapped":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return self.wrapped.step() if closure is None else self.wrapped.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.wrapped.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if "wrapped" in self.__dict__:
            self.wrapped.add_param_group(param_group)
        else:  # torch's constructor
            super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self.wrapped.state_dict()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.wrapped.load_state_dict(state_dict)

    @property
    def _opt_called(self) -> bool:
        """What torch's schedules look at to warn of a schedule's step before the optimizer's; that one may be ours."""
        return True

    @_opt_called.setter
    def _opt_called(self, value: bool) -> None:
        pass

    def __reduce__(self) -> Any:
        return type(self), (self.wrapped,)

    def __repr__(self) -> str:
        return f"TorchOptimizer({self.wrapped!r})"


def as_torch_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """`optimizer` as a torch.optim.Optimizer, for what accepts no other.

        optimizer = AdamW(model.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(as_torch_optimizer(optimizer), rate)

    Both are one optimizer: the groups and the state are the same objects, and a step of either is a step of both. A
    Trainer and `compile_step` take `optimizer` itself.

    Args:
        optimizer: ours, or any with `param_groups`, `state`, `defaults` and the methods of `protocols.Optimizer`; one
            of torch.optim is returned as it is.

    Raises:
        TypeError: it is none.
    """
    if isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    needed = ("param_groups", "state", "defaults", "step", "zero_grad", "state_dict", "load_state_dict")
    lacking = [name for name in needed if not hasattr(optimizer, name)]
    if lacking or isinstance(optimizer, type):
        given = f"the class {optimizer.__name__}" if isinstance(optimizer, type) else f"{optimizer!r:.80}"
        raise TypeError(f"as_torch_optimizer: given {given}, expected an optimizer such as AdamW(model.parameters())")
    return TorchOptimizer(optimizer)
