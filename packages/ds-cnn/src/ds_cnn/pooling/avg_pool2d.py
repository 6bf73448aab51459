"""Average pooling: the mean of each window of an image. Theory: docs/avg_pool2d.md."""

from typing import Literal

import torch
from ds_core import Module, ShapeError, fast_form, reuse
from ds_core.speed.precision import widened
from torch import Tensor

from ds_cnn.pooling.windows import pair, window_count, window_lengths, window_sums, window_sums_backward

# N = batch, C = channels, H, W = size of the input, P, Q = size of the output,
# K = kernel size, s = stride, p = padding, each of these three a pair (height, width)


def plain_avg_pool2d(
    x: Tensor, divisor: Tensor, kernel_size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """x (..., H, W), divisor (P, Q) -> y (..., P, Q)."""
    wide = x.to(divisor.dtype)  # of half precision float32, so that the sum is rounded once
    y = torch.zeros(*x.shape[:-2], *divisor.shape, dtype=divisor.dtype, device=x.device)
    for p in range(divisor.shape[0]):
        for q in range(divisor.shape[1]):
            for h, w in covered_positions(p, q, x.shape[-2:], kernel_size, stride, padding):
                y[..., p, q] += wide[..., h, w] / divisor[p, q]  # y_pq = sum_hw x_hw / D_pq               (1)
    return y.to(x.dtype)


def plain_avg_pool2d_backward(
    dy: Tensor,
    input_size: tuple[int, int],
    divisor: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """dy (..., P, Q), input_size (H, W) -> dx (..., H, W)."""
    wide = dy.to(divisor.dtype)
    dx = torch.zeros(*dy.shape[:-2], *input_size, dtype=divisor.dtype, device=dy.device)
    for p in range(divisor.shape[0]):
        for q in range(divisor.shape[1]):
            for h, w in covered_positions(p, q, input_size, kernel_size, stride, padding):
                dx[..., h, w] += wide[..., p, q] / divisor[p, q]  # dx_hw = sum_pq dy_pq / D_pq            (5)
    return dx.to(dy.dtype)


def covered_positions(
    p: int,
    q: int,
    size: tuple[int, ...],
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> list[tuple[int, int]]:
    """The positions (h, w) in the image, padding left out, that window (p, q) covers."""
    top, left = p * stride[0] - padding[0], q * stride[1] - padding[1]
    rows = [h for h in range(top, top + kernel_size[0]) if 0 <= h < size[0]]
    columns = [w for w in range(left, left + kernel_size[1]) if 0 <= w < size[1]]
    return [(h, w) for h in rows for w in columns]


# All windows at once. The sum over a window is the sum of its rows' sums: K_h + K_w additions instead of K_h K_w.
@fast_form(plain_avg_pool2d)
def avg_pool2d(
    x: Tensor, divisor: Tensor, kernel_size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """x (..., H, W), divisor (P, Q) -> y (..., P, Q)."""
    row_sums = window_sums(x, -1, divisor.shape[1], kernel_size[1], stride[1], padding[1])  # (..., H, Q)
    sums = window_sums(row_sums, -2, divisor.shape[0], kernel_size[0], stride[0], padding[0])  # (..., P, Q)
    return torch.div(sums, divisor, out=reuse(sums)).to(x.dtype)


@fast_form(plain_avg_pool2d_backward)
def avg_pool2d_backward(
    dy: Tensor,
    input_size: tuple[int, int],
    divisor: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """dy (..., P, Q), input_size (H, W) -> dx (..., H, W): dx_hw = sum of dy_pq / D_pq over the windows on (h, w)."""
    dsums = widened(dy) / divisor  # (..., P, Q): dsum_pq = dy_pq / D_pq                                          (2)
    drow_sums = window_sums_backward(dsums, -2, input_size[0], kernel_size[0], stride[0], padding[0])  #          (3)
    dx = window_sums_backward(drow_sums, -1, input_size[1], kernel_size[1], stride[1], padding[1])  #             (4)
    return dx.to(dy.dtype)


IMPLEMENTATIONS = {
    "vectorized": (avg_pool2d, avg_pool2d_backward),
    "loops": (plain_avg_pool2d, plain_avg_pool2d_backward),
}


class AvgPool2d(Module):
    """The mean of each window of an image (LeCun et al., "Gradient-Based Learning", 1998, subsampling without weights).

    Twin of torch.nn.AvgPool2d. Input (N, C, H, W) or (C, H, W), output (N, C, P, Q) or (C, P, Q).

    Args:
        kernel_size: K, the size of a window; here and below one int, or (height, width).
        stride: s, the step from window to window; `kernel_size` by default.
        padding: p, zeros put around the image, at most half a window.
        ceil_mode: keep a last window that sticks out, if it starts before the far padding.
        count_include_pad: whether the zeros of the padding count in the mean.
        divisor_override: divide by this number instead of the size of the window.
        implementation: "vectorized", or "loops", window by window as the formula says, for reading.

    Raises:
        ValueError: for a window, stride, padding or divisor that makes no sense.
        ShapeError: from `forward`, for an input of another shape, or too small for one window.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        self.kernel_size = pair(kernel_size, "AvgPool2d: kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "AvgPool2d: stride")
        self.padding = pair(padding, "AvgPool2d: padding")
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override
        self.implementation = implementation
        if min(self.kernel_size) < 1 or min(self.stride) < 1:
            raise ValueError(f"{self!r}: kernel_size and stride must be 1 or more")
        if any(not 0 <= p <= k // 2 for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"{self!r}: padding must be 0 or more and at most half of kernel_size")
        if divisor_override == 0:
            raise ValueError(f"{self!r}: divisor_override must not be 0")
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"AvgPool2d: given implementation={implementation!r}, expected {sorted(IMPLEMENTATIONS)}")

    def forward(self, input: Tensor) -> Tensor:
        divisor = self._divisor(input)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        self.save(input.shape[-2:], divisor)
        return forward(input, divisor, self.kernel_size, self.stride, self.padding)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        input_size, divisor = self.saved()
        if dy is None:
            return None
        _, backward = IMPLEMENTATIONS[self.implementation]
        return backward(dy, input_size, divisor, self.kernel_size, self.stride, self.padding)

    def _divisor(self, x: Tensor) -> Tensor:
        """D (P, Q), what the sum over each window is divided by, in the dtype of the sum: 57 x 57 is no bfloat16."""
        if x.dim() not in (3, 4) or 0 in x.shape[-3:]:
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected (N, C, H, W) or (C, H, W)")
        geometry = list(zip(x.shape[-2:], self.kernel_size, self.stride, self.padding, strict=True))
        counts = [window_count(*axis, self.ceil_mode) for axis in geometry]
        if min(counts) < 1:
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, which is too small for one window")
        like = widened(x.new_empty(0))
        if self.divisor_override is not None:
            return torch.full(counts, self.divisor_override, dtype=like.dtype, device=x.device)
        heights, widths = (
            window_lengths(size, count, kernel, stride, padding, self.count_include_pad, like)
            for (size, kernel, stride, padding), count in zip(geometry, counts, strict=True)
        )
        return heights[:, None] * widths  # D_pq

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
