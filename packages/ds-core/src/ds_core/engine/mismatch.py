"""Why a layer failed, if it was given no tensor or tensors of several dtypes or devices: said with its name."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.nested_values import leaves
from ds_core.engine.trace import describe
from ds_core.errors import ShapeError, no_tensor

# What PyTorch's messages have in them if it is one of these: "same dtype, but got Double and Float", "on device cpu"
_SPEAKS_OF_IT = re.compile(r"type|device|meta|promot|implemented for|\b(Half|BFloat16|Float|Double|Long|Int|Bool)\b")

Named = tuple[str, Any]  # what it is called, and something that has a dtype and perhaps a device


def autocast_dtype(device: str) -> torch.dtype | None:
    """What autocast casts to on devices of this type; None if it is off, or knows no such devices."""
    if device not in ("cpu", "cuda", "mps", "xpu") or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def explain_mismatch(
    layer: Any, error: RuntimeError, forward: Callable[..., Any] | None, given: Any, options: dict[str, Any]
) -> None:
    """Raise ShapeError, in one sentence, if that can be what `error` is about.

    Args:
        error: what PyTorch raised.
        forward: whose arguments `given` and `options` are; None for a backward, with its outputs as `given`.
    """
    if type(error) not in (RuntimeError, NotImplementedError) or not _SPEAKS_OF_IT.search(str(error)):
        return  # ours, of a layer below, or of something else
    named = list(_arguments(layer, forward, given, options) if forward else _each(given, "the gradient"))
    own = [(name, tensor) for name, tensor in getattr(layer, "named_parameters", dict)() if tensor is not None]
    what = describe(layer) if forward else f"backward of {describe(layer)}"
    found = _devices([*named, *own]) or _dtypes(named, own, in_forward=forward is not None)
    if found is not None:
        raise ShapeError(f"{what}: {found} (PyTorch: {str(error).partition(chr(10))[0]})") from error


def explain_no_tensor(
    layer: Any, error: Exception, forward: Callable[..., Any], given: tuple[Any, ...], options: dict[str, Any]
) -> None:
    """Raise TypeError if an argument that `forward` declares as a tensor is none, which `error` came of.

    Nothing is looked at before something fails: what behaves as a tensor is taken as one.
    """
    if error.__cause__ is not None:
        return  # explained by a layer below
    declared = inspect.signature(forward).parameters
    for name, value in _bound(layer, forward, given, options):
        if declared[name].annotation in (Tensor, "Tensor") and not isinstance(value, Tensor):
            raise TypeError(no_tensor(describe(layer), name, value)) from error


def _devices(named: list[Named]) -> str | None:
    placed = [(name, value.device) for name, value in named if isinstance(value, Tensor) and value.dim() > 0]
    for name, device in placed[1:]:
        if device != placed[0][1]:
            return f"{placed[0][0]} is on {placed[0][1]}, but {name} on {device}: move one of them with .to(device)"
    return None


def _dtypes(named: list[Named], own: list[Named], in_forward: bool) -> str | None:
    floating = [(name, value.dtype) for name, value in named if value.dtype.is_floating_point]
    weights = [(name, tensor.dtype) for name, tensor in own if tensor.is_floating_point()]
    if named and not floating:
        like = f"{weights[0][1]}, as its {weights[0][0]} is" if weights else "a floating dtype"
        return f"given {named[0][0]} in {named[0][1].dtype}, expected {like}"
    for name, dtype in [*floating[1:], *weights]:
        if floating and dtype != floating[0][1]:
            mend = "convert one of them with .to(dtype)" if in_forward else "run backward under the autocast of forward"
            return f"{floating[0][0]} is in {floating[0][1]}, but {name} in {dtype}: {mend}"
    return None


def _arguments(
    layer: Any, forward: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]
) -> Iterator[Named]:
    """The tensors among the arguments, by the names that `forward` gives them."""
    for name, value in _bound(layer, forward, inputs, options):
        yield from _each(value, name)


def _bound(
    layer: Any, forward: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """The arguments that were given; nothing if `forward` does not take so many."""
    try:
        bound = inspect.signature(forward).bind(layer, *inputs, **options).arguments
    except TypeError:
        return
    yield from list(bound.items())[1:]


def _each(value: Any, name: str) -> Iterator[Named]:
    found = [leaf for leaf in leaves(value) if isinstance(getattr(leaf, "dtype", None), torch.dtype)]
    for number, leaf in enumerate(found):
        yield (name if len(found) == 1 else f"{name} {number + 1}"), leaf
