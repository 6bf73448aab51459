"""Arguments of layers and functions: read, and refused in one sentence if they make no sense."""

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ds_core.errors import no_tensor, one_line


def check_implementation(layer: object, implementation: str, known: Iterable[str]) -> None:
    """Raise `ValueError`, naming the class of `layer`, unless `implementation` is one of `known`."""
    names = sorted(known)
    if implementation not in names:
        name = type(layer).__name__
        raise ValueError(f"{name}: given implementation={implementation!r}, expected one of {names}")


def whole_number(owner: str, name: str, value: Any, least: int | None = 1) -> int:
    """`value` as an int: one of Python's or of NumPy's.

    Raises:
        TypeError: it is something else, True and False included; `owner` and `name` say in the message what it is.
        ValueError: it is below `least`, if there is one.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{owner}: given {name}={shown(value)}, expected a whole number, an int")
    if least is not None and number < least:
        raise ValueError(f"{owner}: given {name}={value}, expected {least} or more")
    return number


def real_number(owner: str, name: str, value: Any, *, finite: bool = True) -> Any:
    """`value` as it is, if it is a number, one of Python's or of NumPy's.

    Raises:
        TypeError: it is none, as True and False are; `owner` and `name` say in the message what it is.
        ValueError: it is infinite or NaN, and `finite` is asked for.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{owner}: given {name}={shown(value)}, expected a number")
    if finite and not math.isfinite(value):
        raise ValueError(f"{owner}: given {name}={value}, expected a finite number")
    return value


def probability(owner: str, name: str, value: Any) -> float:
    """`value` as it is, if it is a number from 0 to 1.

    Raises:
        TypeError: it is no number, as True and False are none; `owner` and `name` say in the message what it is.
        ValueError: it is outside of 0 to 1.
    """
    number: float = real_number(owner, name, value, finite=False)
    if not 0 <= number <= 1:
        raise ValueError(f"{owner}: given {name}={value}, expected a probability between 0 and 1")
    return number


def check_tensors(owner: str, **arguments: object) -> None:
    """Raise `TypeError`, naming `owner` and the argument, unless each of them is a tensor.

    For functions: the base class of layers does it for theirs.
    """
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(no_tensor(owner, name, value))


def shown(value: object) -> str:
    """A value in a message: one line, not too long."""
    return f"{one_line(repr(value)):.40}"
