"""What fits where: anything with these methods, without inheriting.

The protocols can be checked at run time (`isinstance(x, Optimizer)`), but never
dispatch on them: every layer also looks like a loss. A change here is a
breaking change of ds-core.
"""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Layer(Protocol):
    """A function with parameters and a handwritten derivative.

    `backward` takes one gradient for each output of `forward` and returns one for
    each differentiable input: bare for one, a tuple for several. None means zeros.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any: ...

    def backward(self, *args: Any, **kwargs: Any) -> Any: ...

    def parameters(self) -> Iterable[Tensor]: ...


@runtime_checkable
class Loss(Protocol):
    """`forward(input, target)` gives a scalar, `backward()` the gradient in the structure of the predictions."""

    def forward(self, *args: Any, **kwargs: Any) -> Any: ...

    def backward(self, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class Optimizer(Protocol):
    """Reads `.grad` of its tensors and changes them; may come from torch.optim."""

    def step(self) -> Any: ...

    def zero_grad(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> None: ...
