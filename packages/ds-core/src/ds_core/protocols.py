"""What fits where: anything with these methods, without inheriting.

The protocols can be checked at run time (`isinstance(x, Optimizer)`), but never
dispatch on them: every layer also looks like a loss. A change here is a
breaking change of ds-core.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import torch
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
    """`forward(input, target)` gives a scalar, `backward()` the gradient in the structure of the predictions.

    A mean may say what it divides by, `denominator(target)`, and be told another one, `forward(..., denominator=)`:
    docs/denominator.md.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any: ...

    def backward(self, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class Optimizer(Protocol):
    """Reads `.grad` of its tensors and changes them; may come from torch.optim."""

    def step(self) -> Any: ...

    def zero_grad(self) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> None: ...


def takes_input_gradient(backward: Callable[..., Any]) -> bool:
    """Whether a layer's backward can be told `input_gradient=False`; one that cannot computes it all the same."""
    function = getattr(backward, "__func__", backward)
    # the compiler sees through a cache, and warns of it; in one, other callables would keep what they hold alive
    cached = inspect.isfunction(function) and not torch.compiler.is_compiling()
    return _known_to_take_it(function) if cached else _takes_input_gradient(function)


def _takes_input_gradient(function: Callable[..., Any]) -> bool:
    arguments = inspect.signature(function).parameters.values()
    return any(a.name == "input_gradient" or a.kind is inspect.Parameter.VAR_KEYWORD for a in arguments)


_known_to_take_it = functools.cache(_takes_input_gradient)
