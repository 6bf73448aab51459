"""Chains of elementwise operations, computed piece by piece so that the steps between stay in the cache.

Theory: docs/elementwise.md.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ds_core.speed.chunks import pieces
from ds_core.speed.precision import widened

Out = Sequence[Tensor | None]  # where the results go, each None for new memory

# Numbers of a piece, the fastest for GELU by trial: of half megabytes of float32 a core's own cache holds the handful
# that a chain has in hand. An optimizer's pieces (optimizers/flat_buffers.py) are larger, for they cost more calls.
PIECE = 2**17


def elementwise(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor, results: int = 1) -> tuple[Tensor, ...]:
    """`function(*inputs, out)`, whose every number depends on the numbers in the same place alone.

    On a CPU, where neither autograd nor a compiler looks on, large inputs are cut into pieces that are calculated one
    after the other. Half precision is calculated in float32 and rounded once.

    Args:
        function: from tensors of one shape and a tuple `out` of as many tensors or Nones as there are results, to the
            results, each best in its `out` where that is given: elsewhere it is copied. It may not change what it is
            given otherwise.
        inputs: tensors of one shape and dtype.
        results: how many tensors `function` returns.

    Returns:
        The results, each of the shape and dtype of the inputs; those of integers as `function` left them.
    """
    first = inputs[0]
    if not _in_pieces(inputs):
        whole = function(*[widened(tensor) for tensor in inputs], (None,) * results)
        # Fractions must not be cut off because what they were made of were integers.
        return tuple(tensor.to(first.dtype) if first.is_floating_point() else tensor for tensor in whole)
    outputs = tuple(torch.empty_like(first) for _ in range(results))
    for parts in pieces([*inputs, *outputs], PIECE):
        given, places = parts[: len(inputs)], parts[len(inputs) :]
        wide = [widened(part) for part in given]
        out = tuple(places) if wide[0] is given[0] else (None,) * results
        for part, result in zip(places, function(*wide, out), strict=True):
            if result is not part:
                part.copy_(result)
    return outputs


def _in_pieces(inputs: Sequence[Tensor]) -> bool:
    """The compiler first, which would otherwise compile again for a size on the other side of the limit."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and inputs[0].device.type == "cpu"
        and inputs[0].is_floating_point()
        and inputs[0].numel() > PIECE
    )
