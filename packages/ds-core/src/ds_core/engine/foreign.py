"""While `record()` is open no torch.nn module may run: autograd is off, so nobody would bring its gradient."""

from collections.abc import Callable
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook

INSTEAD = (
    "ds_core.interop.from_torch makes a layer of it, whose gradient autograd finds; call it under no_record() "
    "if it needs none"
)


class ForeignModuleError(RuntimeError):
    """A torch.nn module was called while `record()` was open: its gradient, and its input's, would be lost."""


def refuse_foreign_modules(recording: Callable[[], bool]) -> Any:
    """Until the returned handle's `remove()`, a torch.nn module that is called while `recording()` raises.

    The class may say in an attribute `instead_in_record` what to do instead.
    """

    def refuse(module: Any, inputs: Any) -> None:
        if recording():  # it is this thread's: others go on as before
            name = type(module).__name__
            instead = getattr(module, "instead_in_record", INSTEAD)
            raise ForeignModuleError(f"{name} was called inside record(), where it would get no gradient: {instead}")

    return register_module_forward_pre_hook(refuse)
