"""The identity, which stands where a layer may be but none is wanted. Theory: docs/shape.md."""

from typing import Any

from torch import Tensor

from ds_core.engine.module import Module


class Identity(Module):
    """y = x, whatever the arguments.

    Twin of torch.nn.Identity.

    Args:
        args, kwargs: anything, and forgotten.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """input -> x itself."""
        self.save()
        return input

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, which is dy itself."""
        self.saved()
        return dy  # dx = dy                                                                                 (1)
