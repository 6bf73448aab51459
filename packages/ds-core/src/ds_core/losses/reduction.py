"""From the losses of all elements to one number, and the gradient back. Theory: docs/reduction.md."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ds_core.errors import did_you_mean
from ds_core.speed.chunks import chunks
from ds_core.speed.elementwise import CHUNK, elementwise
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype, widened

REDUCTIONS = ("mean", "sum", "none")


def plain_reduce_elementwise(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], reduction: str, count: Tensor | int | None = None
) -> Tensor:
    """The losses `function(*inputs)`, reduced; half precision is calculated in float32."""
    return reduce(function(*[tensor.to(wide_dtype(tensor)) for tensor in inputs], out=None), reduction, count)


def plain_reduce_backward(grad: Tensor | None, reduction: str, count: Tensor | int, like: Tensor) -> Tensor:
    """grad of the shape of what `reduce` gave, None for 1 -> dlosses of that shape, to be expanded."""
    grad = like.new_ones(()) if grad is None else grad
    return grad / count if reduction == "mean" else grad  # dL = dloss / n                                  (2)


def check_reduction(loss: str, reduction: str, allowed: Sequence[str] = REDUCTIONS) -> str:
    """`reduction` itself.

    Raises:
        ValueError: where it is none of `allowed`, naming the loss, what is allowed and the nearest name.
    """
    if reduction not in allowed:
        *names, last = (f'"{name}"' for name in allowed)
        near = did_you_mean(str(reduction), allowed)
        raise ValueError(f"{loss}: given reduction={reduction!r}, expected {', '.join(names)} or {last}{near}")
    return reduction


def reduce(losses: Tensor, reduction: str, count: Tensor | int | None = None) -> Tensor:
    """losses (...) -> (), or with "none" the losses; "mean" divides by `count`, or if that is None by their number."""
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / (losses.numel() if count is None else count)  # sum L / n (1)


# Half precision is calculated in float32.
@fast_form(plain_reduce_backward)
def reduce_backward(grad: Tensor | None, reduction: str, count: Tensor | int, like: Tensor) -> Tensor:
    """grad of the shape of what `reduce` gave, None for 1 -> dlosses of that shape, to be expanded.

    `like` is a tensor of the dtype and on the device of the losses.
    """
    if grad is None:
        grad = torch.ones((), dtype=like.dtype, device=like.device)
    return widened(grad) / count if reduction == "mean" else grad  # dL = dloss / n                         (2)


# In chunks, each summed while it is in the cache, so that the losses never stand in memory all at once.
@fast_form(plain_reduce_elementwise)
def reduce_elementwise(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], reduction: str, count: Tensor | int | None = None
) -> Tensor:
    """`reduce(function(*inputs), ...)`; on a CPU and without autograd, large inputs are processed in chunks.

    Args:
        function: of tensors of one shape, to the loss of each element, best in the tensor `out` if that is not None.
        inputs: tensors of one shape; half precision is calculated in float32.
        count: what "mean" divides by; None: the number of elements.
    """
    if reduction == "none":
        (losses,) = elementwise(lambda *given: (function(*given[:-1], out=given[-1][0]),), *inputs)
        return losses
    whole = torch.compiler.is_compiling() or torch.is_grad_enabled() or inputs[0].device.type != "cpu"
    parts = [list(inputs)] if whole else chunks(inputs, CHUNK)
    if len(parts) == 1:
        total = function(*[widened(tensor) for tensor in inputs], out=None).sum()
    else:
        # One buffer for the losses of all chunks: to ask for memory chunk by chunk takes longer than to compute them.
        buffer = torch.empty_like(widened(parts[0][0]))
        wide = ([widened(tensor) for tensor in part] for part in parts)
        total = torch.stack([function(*part, out=buffer[: len(part[0])]).sum() for part in wide]).sum()
    return reduce(total, reduction, inputs[0].numel() if count is None else count)
