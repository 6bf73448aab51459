"""Chains of elementwise operations, computed chunk by chunk so that the steps between stay in the cache.

Theory: docs/elementwise.md.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ds_core.speed.chunks import chunks
from ds_core.speed.precision import widened

Out = Sequence[Tensor | None]  # the memory for each result, None: new memory

# Elements of a chunk, the fastest for GELU by trial: a chain has a handful of tensors in hand, and of half a megabyte
# of float32 each they fit in one core's own cache. An optimizer's chunks (optimizers/flat_buffers.py) are larger,
# because each of them costs more calls.
CHUNK = 2**17


def elementwise(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, results: int = 1) -> tuple[Tensor, ...]:
    """`function(*inputs, out)`, each element of which depends only on the elements of the inputs at the same index.

    On a CPU, unless autograd or the compiler is tracing, large inputs are processed in chunks, one after the other.
    Half precision is computed in float32 and rounded once.

    Args:
        function: takes tensors of one shape and a tuple `out` of a tensor or None for each result, and returns the
            results. A result is best written to its `out`, if that is a tensor; otherwise it is copied there. Apart
            from that the function may not change what it is given.
        inputs: tensors of one shape and dtype.
        results: how many tensors `function` returns.

    Returns:
        The results, each in the shape and dtype of the inputs; if those are integers, in the dtype `function` gave.
    """
    first = inputs[0]
    if not _in_chunks(inputs):
        whole = function(*[widened(tensor) for tensor in inputs], (None,) * results)
        # A result computed from integers may have fractions, which must not be cut off.
        return tuple(tensor.to(first.dtype) if first.is_floating_point() else tensor for tensor in whole)
    outputs = tuple(torch.empty_like(first) for _ in range(results))
    for parts in chunks([*inputs, *outputs], CHUNK):
        given, targets = parts[: len(inputs)], parts[len(inputs) :]
        wide = [widened(part) for part in given]
        out = tuple(targets) if wide[0] is given[0] else (None,) * results
        for target, result in zip(targets, function(*wide, out), strict=True):
            if result is not target:
                target.copy_(result)
    return outputs


def _in_chunks(inputs: Sequence[Tensor]) -> bool:
    """Compiling is asked first: the compiler would otherwise compile again if a size crossed the limit."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and inputs[0].device.type == "cpu"
        and inputs[0].is_floating_point()
        and inputs[0].numel() > CHUNK
    )
