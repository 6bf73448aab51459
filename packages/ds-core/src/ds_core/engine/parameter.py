"""A parameter is a leaf tensor that requires a gradient; its one gradient slot is `.grad`."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class _Watch(threading.local):
    """Who is told of every `accumulate` of this thread."""

    def __init__(self) -> None:
        self.tell: Callable[[Tensor], None] | None = None


_watch = _Watch()
_one_at_a_time = threading.Lock()  # threads that share a parameter would lose each other's gradients


def parameter(data: Tensor) -> Tensor:
    """A parameter that holds `data` (its memory, not a copy).

    `randn(3, requires_grad=True) * 0.1` is no leaf: autograd would give its
    gradient to the unscaled tensor, which nobody holds. Write `parameter(torch.randn(3) * 0.1)`.
    Freeze it, if need be, once the module holds it: `module.weight.requires_grad_(False)`.
    """
    return data.detach().requires_grad_()


@contextmanager
def frozen(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Inside, none of these parameters asks for a gradient, so that none is computed and no `.grad` changes."""
    trained = [each for each in parameters if each.requires_grad]
    try:
        for each in trained:
            each.requires_grad_(False)
        yield
    finally:
        for each in trained:
            each.requires_grad_(True)


def accumulate(parameter: Tensor | None, gradient: Tensor | None) -> None:
    """Add `gradient` to `parameter.grad`, in the parameter's dtype.

    The first gradient becomes `.grad` itself, without a copy: give a tensor that
    nobody else holds, so never the `dy` you were handed, nor a view of it.
    A frozen or absent parameter takes nothing; None means zeros.

    Raises:
        ValueError: where the shapes differ.
    """
    if parameter is None or not parameter.requires_grad:
        return
    if gradient is not None:
        _add(parameter, gradient)
    if _watch.tell is not None:
        _watch.tell(parameter)


@contextmanager
def watched_accumulation(tell: Callable[[Tensor], None]) -> Iterator[None]:
    """Inside, `tell(parameter)` follows every `accumulate` of this thread, one of None too; not those of frozen ones.

    Data-parallel training learns by it when a gradient is complete.
    """
    before, _watch.tell = _watch.tell, tell
    try:
        yield
    finally:
        _watch.tell = before


def _add(parameter: Tensor, gradient: Tensor) -> None:
    if gradient.shape != parameter.shape:
        raise ValueError(
            f"a gradient of shape {tuple(gradient.shape)} for a parameter of shape {tuple(parameter.shape)}: "
            "a gradient has the shape of what it is the gradient of"
        )
    if torch.compiler.is_compiling():
        _add_up(parameter, gradient)
        return
    with _one_at_a_time:
        _add_up(parameter, gradient)


@torch.no_grad()
def _add_up(parameter: Tensor, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient.to(parameter.dtype)
    else:
        parameter.grad.add_(gradient)


def replace_value(tensor: Tensor, value: Tensor) -> None:
    """Let `tensor`, the same object, be `value` from now on; its gradient follows."""
    value = value.detach()
    gradient = None if tensor.grad is None else tensor.grad.to(value)
    tensor.grad = None
    if (value.device.type == "meta") == (tensor.device.type == "meta"):
        tensor.data = value
    else:
        value.requires_grad_(tensor.requires_grad).__class__ = tensor.__class__  # which would be swapped as well
        torch.utils.swap_tensors(tensor, value)  # type: ignore[no-untyped-call]
    tensor.grad = gradient
