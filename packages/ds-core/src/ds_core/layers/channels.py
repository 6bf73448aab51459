"""Sums and moments of each channel, scaling by channel, and chunks of images. Theory: docs/batch_norm.md."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ds_core.engine.trace import reuse
from ds_core.speed.precision import wide_dtype, widened

# N = batch, C = channels, M = values of one channel: N times all dimensions after C

# Elements of a chunk of images, the fastest by trial. More than speed/elementwise.py takes, because sums over a chunk
# cost more calls; a chunk of a megabyte still stays in the cache that the cores share.
CHUNK = 2**18
SHORT = 32  # up to here a row is too short for sums along it to be fast


def values_per_channel(x: Tensor) -> int:
    """M of x (N, C, ...)."""
    return x.shape[0] * math.prod(x.shape[2:])


def inverse_values_per_channel(x: Tensor) -> float:
    """1 / M of x (N, C, ...); 1 if M is 0."""
    return 1 / max(1, values_per_channel(x))


def positions(x: Tensor, c: int) -> Iterator[tuple[int, ...]]:
    """Where the M numbers of channel c stand in x (N, C, ...), one after the other."""
    return itertools.product(range(x.shape[0]), [c], *[range(size) for size in x.shape[2:]])


def channel_sums(x: Tensor) -> Tensor:
    """x (N, C, ...) -> (C,), in float32 for half precision."""
    if x.dim() > 2 and not channels_innermost(x) and x.stride(0) > 0 and math.prod(x.shape[2:]) <= SHORT:
        x = x.sum(0, keepdim=True, dtype=wide_dtype(x))
    return x.sum([0, *range(2, x.dim())], dtype=wide_dtype(x))


def along_channels(vector: Tensor, x: Tensor) -> Tensor:
    """vector (C,) -> a view that broadcasts with x (N, C, ...)."""
    return vector.view(-1, *[1] * (x.dim() - 2))


def channels_innermost(x: Tensor) -> bool:
    """Whether the numbers of one position lie side by side in memory: (N, C), or images with the channels last."""
    return x.dim() == 2 or x.stride(1) == 1


def channelwise(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs, out)` where each channel's numbers are scaled and shifted alike, and nothing else happens.

    As `speed.elementwise`: on a CPU large inputs are processed in chunks, and half precision is computed in float32.

    Args:
        function: takes parts (n, C, ...) of the inputs, and memory for the result or None, and returns the result.
        inputs: tensors (N, C, ...) of one shape and dtype.

    Returns:
        The result, in the shape, dtype and memory order of the first input.
    """
    first = inputs[0]
    if not in_chunks(first):
        return function(*[widened(tensor) for tensor in inputs], None).to(first.dtype)
    y = torch.empty_like(first)
    for *parts, target in image_chunks([*inputs, y]):
        wide = [widened(part) for part in parts]
        result = function(*wide, target if wide[0] is parts[0] else None)
        if result is not target:
            target.copy_(result)
    return y


def channel_totals(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """The sum of `function` (...,) over the parts (n, C, ...) of inputs (N, C, ...), which are cut as above."""
    totals = [function(*[widened(part) for part in parts]) for parts in image_chunks(inputs)]
    return totals[0] if len(totals) == 1 else torch.stack(totals).sum(0)


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (N, C, ...) -> mean and variance (C,), the latter divided by M.

    If x is cut into chunks, its numbers are taken about the mean of the first one, so that each is visited once.
    """
    chunks = [part for (part,) in image_chunks([x])]
    share = inverse_values_per_channel(x)
    centre = channel_sums(chunks[0]) * inverse_values_per_channel(chunks[0])  # mean_c = 1/M sum_n x_nc        (1)
    sums, squares = [], []
    for part in chunks:
        centred = widened(part) - along_channels(centre, x)
        if len(chunks) > 1:
            sums.append(channel_sums(centred))
        squares.append(channel_sums(torch.mul(centred, centred, out=reuse(centred))))
    if len(chunks) == 1:
        return centre, squares[0] * share  # var_c = 1/M sum_n (x_nc - mean_c)^2                               (2)
    rest = torch.stack(sums).sum(0) * share  # rest_c = 1/M sum_n (x_nc - centre_c)
    mean = centre + rest  #                                                                                   (11)
    var = torch.stack(squares).sum(0) * share - rest * rest  # 1/M sum_n (x_nc - centre_c)^2 - rest_c^2       (12)
    return mean, var.clamp_min(0)  # rounding alone would make it negative


def standardised(x: Tensor, centre: Tensor, scale: Tensor, shift: Tensor | None, out: Tensor | None) -> Tensor:
    """(x - centre) scale + shift: the mean goes first, so that a constant channel gives the shift exactly."""
    centred = torch.sub(x, centre, out=out)
    if shift is None:
        return torch.mul(centred, along_channels(scale, x), out=reuse(centred))
    return scaled(centred, scale, shift, reuse(centred))


def scaled(x: Tensor, scale: Tensor, shift: Tensor, out: Tensor | None) -> Tensor:
    """x scale + shift of x (N, C, ...), scale and shift (C,), in `out` if that is given."""
    if channels_innermost(x):
        return torch.addcmul(along_channels(shift, x), x, along_channels(scale, x), out=out)
    # Not addcmul, which on a CPU is slow where two of its inputs repeat one number along the innermost dimension.
    scaled = torch.mul(x, along_channels(scale, x), out=out)
    return torch.add(scaled, along_channels(shift, x), out=reuse(scaled))


def in_chunks(x: Tensor) -> bool:
    """Whether `image_chunks` cuts. Compiling is asked first: otherwise a size that crosses the limit compiles anew."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.numel() > CHUNK
    )


def image_chunks(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors (N, C, ...) of one shape cut alike into views (n, C, ...) of about CHUNK elements, or whole.

    An example that is larger alone is cut along its first dimension after C.
    """
    first = tensors[0]
    if not in_chunks(first):
        yield list(tensors)
        return
    example = first.numel() // first.shape[0]
    for parts in _split(tensors, 0, max(1, CHUNK // example)):
        if example <= CHUNK or first.dim() == 2:
            yield parts
        else:
            yield from _split(parts, 2, max(1, CHUNK // (example // first.shape[2])))


def _split(tensors: Sequence[Tensor], dim: int, size: int) -> Iterator[list[Tensor]]:
    return (list(parts) for parts in zip(*[torch.split(tensor, size, dim) for tensor in tensors], strict=True))
