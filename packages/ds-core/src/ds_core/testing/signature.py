"""`check_signature`: a class takes what the torch class of its name takes. Theory: docs/testing.md."""

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

import torch

from ds_core.testing.failure import CheckFailed

# What any twin may leave out, and why.
MACHINERY = {
    "inplace": "memory of PyTorch's own engine",
    "foreach": "which of PyTorch's loops runs",
    "fused": "which of PyTorch's kernels runs",
    "capturable": "CUDA graphs",
    "differentiable": "autograd through the optimizer's step",
    "size_average": "deprecated for `reduction`",
    "reduce": "deprecated for `reduction`",
    "verbose": "deprecated, and gone from newer versions",
}
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_signature(ours: type, theirs: type, left_out: Collection[str] = ()) -> None:
    """Same class name; same arguments of the constructor and of forward: names, order, defaults.

    Ours may leave out what `MACHINERY` and `left_out` name, and what begins with an underscore. It may add keyword-only
    arguments (`generator`), and make keyword-only what follows an argument that it leaves out.

    Raises:
        CheckFailed: showing both signatures.
    """
    if ours.__name__ != theirs.__name__:
        raise CheckFailed(ours.__name__, "arguments", f"the twin's name is {theirs.__name__}")
    absent = {*MACHINERY, *left_out}
    for method, mine, other in _signatures(ours, theirs):
        wanted, given = _arguments(other, absent), _arguments(mine, absent)
        names = [name for name, _, _ in wanted]
        given = [argument for argument in given if argument[0] in names or argument[2]]
        shifted = _after_the_first(other, absent)
        given, wanted = (
            [(name, default, positional or name in shifted) for name, default, positional in arguments]
            for arguments in (given, wanted)
        )
        if given != wanted or not _variadic(mine) <= _variadic(other):
            message = f"{method} takes {_written(mine)}, the twin {_written(other)}"
            raise CheckFailed(ours.__name__, "arguments", message)


def check_signatures(package: ModuleType, exceptions: Mapping[str, str] | None = None) -> list[str]:
    """`check_signature` for every exported class with the name of one of torch.nn, torch.optim or its schedules.

        check_signatures(ds_core, {"Embedding.sparse": "gradients are dense here", "Module": "the base class"})

    Args:
        exceptions: by `"Class.argument"`, or `"Class"` for one that is no twin: why it is not compared.

    Returns:
        The names of the classes that were compared.

    Raises:
        CheckFailed: by `check_signature`, or because an exception is not needed.
    """
    left = dict(exceptions or {})
    compared = []
    for ours, theirs in _twins(package):
        name = ours.__name__
        if left.pop(name, None) is not None:
            continue
        own = {key.rpartition(".")[2] for key in left if key.startswith(f"{name}.")}
        check_signature(ours, theirs, own)
        for argument in own:
            with suppress(CheckFailed):
                check_signature(ours, theirs, own - {argument})
                continue
            del left[f"{name}.{argument}"]
        compared.append(name)
    if left:
        raise CheckFailed(package.__name__, "arguments", f"exceptions that are not needed: {', '.join(left)}")
    return compared


def takes_argument(cls: Any, name: str) -> bool:
    """Whether a class of the installed torch takes the argument: some came after the oldest torch that is supported."""
    arguments = inspect.signature(cls).parameters
    return name in arguments or any(argument.kind is inspect.Parameter.VAR_KEYWORD for argument in arguments.values())


def _twins(package: ModuleType) -> Iterator[tuple[type, type]]:
    for name in package.__all__:
        found = (getattr(module, name, None) for module in (torch.nn, torch.optim, torch.optim.lr_scheduler))
        theirs = next((cls for cls in found if inspect.isclass(cls)), None)
        ours = getattr(package, name)
        if inspect.isclass(ours) and theirs is not None:
            yield ours, theirs


def _signatures(ours: type[Any], theirs: type[Any]) -> list[tuple[str, inspect.Signature, inspect.Signature]]:
    """Of the constructor, and of forward where the twin has one; without `self`."""
    found = [("__init__", inspect.signature(ours), inspect.signature(theirs))]
    if hasattr(theirs, "forward"):
        forwards = [inspect.signature(cls.forward) for cls in (ours, theirs)]
        first, second = (one.replace(parameters=[*one.parameters.values()][1:]) for one in forwards)
        found.append(("forward", first, second))
    return found


def _is_absent(name: str, absent: Collection[str]) -> bool:
    return name in absent or name.startswith("_")


def _arguments(signature: inspect.Signature, absent: Collection[str]) -> list[tuple[str, Any, bool]]:
    """Name, default, and whether the position counts: not of keyword-only arguments."""
    return [
        (name, argument.default, argument.kind != inspect.Parameter.KEYWORD_ONLY)
        for name, argument in signature.parameters.items()
        if not _is_absent(name, absent) and argument.kind not in _VARIADIC
    ]


def _after_the_first(signature: inspect.Signature, absent: Collection[str]) -> set[str]:
    """The arguments that stand after one that is left out: elsewhere by position."""
    names = list(signature.parameters)
    first = next((index for index, name in enumerate(names) if _is_absent(name, absent)), len(names))
    return set(names[first:])


def _variadic(signature: inspect.Signature) -> set[str]:
    """Whether it takes any number of arguments, by position and by name. Their own names do not matter."""
    return {argument.kind.name for argument in signature.parameters.values() if argument.kind in _VARIADIC}


def _written(signature: inspect.Signature) -> str:
    bare = [argument.replace(annotation=inspect.Parameter.empty) for argument in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
