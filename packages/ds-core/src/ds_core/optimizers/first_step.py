"""Does an optimizer's `update` change its parameters? Looked at in the first step, where it costs nearly nothing."""

import torch
from torch import Tensor

from ds_core.optimizers.update_rule import Options

# A step of a smaller rate may be lost in rounding, and leave each number as it is.
SMALL_RATE = 1e-6

Before = tuple[int, Tensor] | None  # version and numbers of a parameter before its update; None: no longer needed


class FirstStep:
    """Watches the updates of one step, until one of them has changed its parameter.

    `parameter = parameter - lr * gradient` makes a new tensor, and the parameter stays as it is.
    """

    def __init__(self) -> None:
        self.changed = False
        self.stayed = 0

    def before(self, parameter: Tensor) -> Before:
        return None if self.changed else (parameter._version, parameter.detach().clone())

    def after(self, parameter: Tensor, before: Before, gradient: Tensor, group: Options) -> None:
        if before is None:
            return
        version, numbers = before
        # what is changed through `.data` keeps its version
        if parameter._version != version or not torch.equal(parameter, numbers):
            self.changed = True
        elif float(group.get("lr", 1)) > SMALL_RATE and bool((gradient != 0).any()):
            self.stayed += 1

    def moved(self, name: str) -> bool:
        """Whether an update has changed its parameter; False, too, if there was none that had to.

        Raises:
            TypeError: none has, though gradients and learning rates are not 0.
        """
        if self.stayed and not self.changed:
            raise TypeError(
                f"{name}: update has changed none of {self.stayed} parameters that have a gradient: change the "
                "parameter in place, as in `parameter -= lr * gradient`, for `parameter = parameter - lr * gradient` "
                "makes a new tensor"
            )
        return self.changed
