"""Errors shared by all packages."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor


class ShapeError(ValueError, RuntimeError):
    """A tensor of a shape or dtype that the layer cannot take.

    A ValueError, as Python calls it, and a RuntimeError, as the torch.nn twin raises.
    """


class StateDictError(ValueError, RuntimeError):
    """A `state_dict` that does not fit: names or shapes differ; nothing has been copied. A RuntimeError in torch.nn."""


def check_last_dimension(layer: object, x: Tensor, expected: int) -> None:
    """Raise `ShapeError`, naming `layer`, unless the last dimension of `x` is `expected` long."""
    if x.dim() == 0 or x.shape[-1] != expected:
        raise ShapeError(f"{layer}: given input of shape {tuple(x.shape)}, expected (..., {expected})")


def check_floating(layer: object, **tensors: Tensor) -> None:
    """Raise `ShapeError`, naming `layer`, unless each of the tensors is floating."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ShapeError(f"{layer}: given {name} in {tensor.dtype}, expected a floating dtype")


def check_against_weight(layer: object, x: Tensor, weight: Tensor | None) -> None:
    """Raise `ShapeError`, naming `layer`, if `x` is on another device than `weight`, or of a wider dtype.

    Half precision may meet float32.
    """
    if weight is None:
        return
    if x.is_floating_point() and x.element_size() > weight.element_size():
        raise ShapeError(
            f"{layer}: given input in {x.dtype}, but its weight is in {weight.dtype}: convert one with .to(dtype)"
        )
    if x.device != weight.device:
        raise ShapeError(
            f"{layer}: input is on {x.device}, but weight on {weight.device}: move one of them with .to(device)"
        )


def no_layer(value: object) -> str:
    """What to say of `value`, which stands where a layer is expected."""
    if isinstance(value, type):
        return f"given the class {value.__name__}, expected a layer: write {value.__name__}(...)"
    if hasattr(value, "named_parameters"):
        given, mend = (
            f"a {type(value).__module__}.{type(value).__name__}",
            "from_torch makes a layer of a torch.nn module",
        )
    elif callable(value):
        given = f"the function {getattr(value, '__name__', type(value).__name__)}"
        mend = "from_autograd makes a layer of it"
    else:
        return f"given {one_line(repr(value)):.80}, expected a layer"
    return f"given {given}, which has no backward; ds_core.interop.{mend}"


def no_tensor(owner: object, name: str, value: object) -> str:
    """What to say of the argument `name` of `owner`, which is `value` and should be a tensor."""
    what = "None" if value is None else f"{one_line(repr(value)):.40}, a {type(value).__name__}"
    return f"{owner}: given {name} = {what}, expected a torch.Tensor"


class UserError(Exception):
    """A mistake of the person at the command line; the message is one line, for them, and no traceback is shown.

    `exit_status` is what `ds` ends with: 2 for options or inputs that cannot be used,
    1 (subclasses) for what went wrong while running.
    """

    exit_status = 2


class WriteError(UserError):
    """A file could not be written (full disk, no permission); what it held before is still there."""

    exit_status = 1


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, of a newer format, or of another model; nothing has been loaded."""

    exit_status = 1


class NonFiniteError(UserError):
    """The loss or a gradient became infinite or NaN; the message names the first layer where it did."""

    exit_status = 1


class MissingPackageError(UserError, ImportError):
    """An optional package is needed here; the message says how to install it."""


class Interrupted(KeyboardInterrupt):
    """Training stopped by Ctrl-C (or SIGTERM) after a whole step; the message says what was saved.

    A KeyboardInterrupt, so that code around `Trainer.fit` that knows nothing of it stops as well.
    """


@contextmanager
def needs_extra(extra: str, purpose: str, package: str = "ds-core") -> Iterator[None]:
    """Around the import of an optional package: if it is missing, say which extra of `package` brings it.

        with needs_extra("text", "scoring translations"):
            import sacrebleu

    Raises:
        MissingPackageError: the import failed; the message names what is missing and the extra.
    """
    try:
        yield
    except ImportError as error:
        missing = (error.name or str(error)).partition(".")[0]
        raise MissingPackageError(
            f'{purpose} needs {missing}, which is not installed: pip install "{package}[{extra}]"'
        ) from error


def one_line(text: object) -> str:
    """The text of an error in one line."""
    return " ".join(str(text).split())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean train?`, or nothing where no known word is near."""
    bare = {name.lstrip("-"): name for name in known}  # two dashes in common are no likeness
    near = difflib.get_close_matches(word.lstrip("-"), list(bare), n=1, cutoff=0.6)
    return f"; did you mean {bare[near[0]]}?" if near else ""
