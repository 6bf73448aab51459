"""Functions that a compiler leaves alone: torch.compile ends its graph before them and begins another behind them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])

REASON = (
    "as_torch runs a handwritten backward, which is no part of a graph: leave fullgraph=True out, or train the whole "
    "model by the handwritten engine, whose step compiles as one graph"
)


def outside_the_graph(function: F) -> F:
    """`function`, run in eager with all that it calls, whether or not its caller is being compiled."""
    eager: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():  # the compiler is seconds of import, which without it nobody needs
            return function(*args, **kwargs)
        if not eager:
            eager.append(_disabled(function))
        return eager[0](*args, **kwargs)

    return called  # type: ignore[return-value]


def _disabled(function: Callable[..., Any]) -> Callable[..., Any]:
    takes_reason = "reason" in inspect.signature(torch.compiler.disable).parameters  # since torch 2.8
    reason = {"reason": REASON} if takes_reason else {}
    return torch.compiler.disable(function, **reason)  # type: ignore[no-any-return, no-untyped-call]
