"""Plain pairs: each operation as its page writes it, linked to the form that runs. Theory: docs/plain.md."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

# Arguments of fast forms that say what to leave out or where to write. The equations know neither.
ONLY_FAST = ("needs", "out")


class PlainPair(NamedTuple):
    """A function as its page writes it, and the fast form that runs by default."""

    plain: Callable[..., Any]
    fast: Callable[..., Any]

    @property
    def name(self) -> str:
        """Module and function of the fast form."""
        return f"{self.fast.__module__}.{self.fast.__qualname__}"


class _Switch:
    # Not by thread: PyTorch runs the backward passes of `as_torch` in threads of its own.
    on = False


_pairs: list[PlainPair] = []


def fast_form(plain_function: Callable[..., Any]) -> Callable[[F], F]:
    """Link a fast function to its plain one, which runs in its place inside `with plain():`.

        def plain_silu(x):
            return x * sigmoid(x)

        @fast_form(plain_silu)
        def silu(x): ...

    Both take the same arguments under the same names and return the same. Two arguments the plain function need not
    have: `out`, which it may ignore, and `needs`, flags for the results. It computes all results, and those that are
    not needed are replaced by None.
    """

    def link(function: F) -> F:
        signature = inspect.signature(function)
        known = inspect.signature(plain_function).parameters
        unknown = [name for name in signature.parameters if name not in known and name not in ONLY_FAST]
        if unknown:
            raise TypeError(f"{plain_function.__name__} does not take {', '.join(unknown)} of {function.__name__}")

        @functools.wraps(function)
        def run_plain(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            results = plain_function(**{name: given.arguments[name] for name in known})
            needs = given.arguments.get("needs")
            if needs is None or "needs" in known or not isinstance(results, tuple):
                return results
            return tuple(result if needed else None for result, needed in zip(results, needs, strict=True))

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return run_plain(*args, **kwargs) if _Switch.on else function(*args, **kwargs)

        call.plain_form = run_plain  # type: ignore[attr-defined]
        _pairs.append(PlainPair(plain_function, call))
        return cast(F, call)

    return link


def plain_form(function: F) -> F:
    """The plain function that a fast one is linked to, with the fast one's arguments, `needs` and `out` included."""
    if not hasattr(function, "plain_form"):
        raise TypeError(f"{function!r} has no plain form: no `fast_form` links it to one")
    return cast(F, function.plain_form)


@contextmanager
def plain() -> Iterator[None]:
    """Run every linked operation, and every optimizer, by its plain form: to read, to step through, to compare.

    It holds for the whole process, threads included, until the block ends. Results agree with the fast forms to
    rounding error, and memory and time are those of the textbook.
    """
    before = _Switch.on
    _Switch.on = True
    try:
        yield
    finally:
        _Switch.on = before


def is_plain() -> bool:
    """Whether the code runs inside `with plain():`."""
    return _Switch.on


def plain_pairs(package: str) -> list[PlainPair]:
    """The pairs that a package's modules have linked so far: import what you want to see first."""
    return [pair for pair in _pairs if pair.fast.__module__.split(".")[0] == package]
