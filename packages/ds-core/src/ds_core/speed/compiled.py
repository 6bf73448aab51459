"""Pure functions compiled one by one: the lighter of the two compiled levels, off by default.

Chains of elementwise operations are where eager mode loses time: each of them
reads and writes memory once. `compile_pairs(True)` fuses every function below
that is marked `@compilable`; that takes seconds, whatever the depth of the model.
"""

import functools
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])


class _Switch:
    """Whether pairs are compiled, what has been, and what has been reported: a missing compiler, torch's refusal."""

    on = False
    compiled: ClassVar[dict[Callable[..., Any], Callable[..., Any]]] = {}
    warned = False
    reported = False


def compile_pairs(enabled: bool = True) -> bool:
    """Let the functions marked `@compilable` run compiled (True) or as they are written (False).

    Each is compiled when it is first called, once for every combination of dtypes
    and of arguments present; sizes may change freely. Autograd's engine, and a step
    that is itself being compiled, are left alone: they call what is written.

    Returns:
        Whether the functions run compiled from now on: False too where `can_compile` is.
    """
    _Switch.on = enabled and can_compile()
    _Switch.compiled.clear()
    return _Switch.on


def can_compile() -> bool:
    """Whether torch.compile works here; the first time it does not, a warning says why.

    It needs a C++ compiler, and a Python that the installed torch can compile: none newer than torch itself.
    """
    if not has_compiler():
        return False
    try:
        torch.compile(can_compile)  # compiles nothing before it is called
    except RuntimeError as refusal:
        if not _Switch.reported:
            _Switch.reported = True
            python = ".".join(map(str, sys.version_info[:2]))
            warnings.warn(
                f"torch {torch.__version__} cannot compile on Python {python} ({refusal}): running uncompiled. "
                "Install a newer torch, or use an older Python",
                stacklevel=3,
            )
        return False
    return True


def has_compiler() -> bool:
    """Whether torch.compile finds the C++ compiler that it needs; the first time it does not, a warning says so."""
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    command = shlex.split(os.environ.get("CXX", default)) or [default]
    found = shutil.which(command[0]) is not None
    if not found and not _Switch.warned:
        _Switch.warned = True
        warnings.warn(
            f"no C++ compiler found (looked for {command[0]!r}): running uncompiled. Install one "
            f"(for example the package g++), or set the environment variable CXX to yours",
            stacklevel=3,
        )
    return found


def compilable(function: F) -> F:
    """Mark a pure function of tensors as one that `compile_pairs(True)` compiles."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _Switch.on or torch.compiler.is_compiling() or torch.is_grad_enabled():
            return function(*args, **kwargs)
        if function not in _Switch.compiled:
            _Switch.compiled[function] = torch.compile(function, dynamic=True)
        return _Switch.compiled[function](*args, **kwargs)

    return cast(F, call)
