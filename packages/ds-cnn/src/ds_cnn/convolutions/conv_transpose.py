"""The layers ConvTranspose1d, ConvTranspose2d and ConvTranspose3d. Theory: docs/transposed_convolution.md."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import torch
from ds_core import ShapeError, accumulate
from ds_core.arguments import check_implementation
from ds_core.errors import check_against_weight, check_floating
from torch import Tensor

from ds_cnn.convolutions.conv import Convolution
from ds_cnn.convolutions.geometry import Sizes, check_input, per_axis, transposed_size
from ds_cnn.convolutions.transposed_convolution import TRANSPOSED_IMPLEMENTATIONS, transposed_sizes

# N = batch, C = in_channels, O = out_channels, g = groups, P = size of the input, S = size of the output,
# K = kernel size; P, S, K one number per spatial axis


class ConvTranspose(Convolution):
    """y_nos = sum_cp x_ncp w_cok + b_o with s = p stride - padding + k dilation: every input number stamps the kernel.

    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4. Input (N, C, *P) or
    (C, *P), output (N, O, *S) or (O, *S) with S = (P - 1) stride - 2 padding + dilation (K - 1) + 1 + output_padding.
    Parameters: `weight` (C, O/g, *K), `bias` (O,), first uniform in +-1/sqrt(O/g K), as in torch.nn. Keeps the input.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: K; here and below one int, or one for each spatial axis.
        stride: the step between the stamps of neighbouring input numbers.
        padding: how much is cut off the output at either end.
        output_padding: how much is added to one end of the output, less than the stride or the dilation.
        groups: g, parts of the channels that do not see each other.
        bias: whether b is there.
        dilation: the step from one number of the kernel to the next.
        padding_mode: "zeros".
        implementation: "vectorized" takes the best technique for the shapes, "loops" is the formula product by product.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: for arguments that make no sense; from `forward`, for an `output_size` that cannot be.
        ShapeError: from `forward`, if the input has another shape or dtype, or the output would have no position.
    """

    transposed: ClassVar[bool] = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Iterable[int],
        stride: int | Iterable[int] = 1,
        padding: int | Iterable[int] = 0,
        output_padding: int | Iterable[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Iterable[int] = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
        generator: torch.Generator | None = None,
    ) -> None:
        name = type(self).__name__
        if isinstance(padding, str) or padding_mode != "zeros":
            raise ValueError(
                f"{name}: given padding={padding!r} and padding_mode={padding_mode!r}, expected numbers and 'zeros'"
            )
        check_implementation(self, implementation, TRANSPOSED_IMPLEMENTATIONS)
        self.output_padding = per_axis(output_padding, self.axes, f"{name}: output_padding")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            implementation,
            generator,
        )
        limits = [max(step, gap) for step, gap in zip(self.stride, self.dilation, strict=True)]
        if any(not 0 <= extra < limit for extra, limit in zip(self.output_padding, limits, strict=True)):
            raise ValueError(
                f"{name}: given output_padding={self.output_padding}, expected at least 0 and less than "
                f"stride={self.stride} or dilation={self.dilation}"
            )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """input (N, C, *P) or (C, *P) -> y (N, O, *S) or (O, *S).

        Args:
            output_size: S, in place of what `output_padding` makes of it: up to a stride longer than the shortest. It
                may be given with the dimensions before it.
        """
        check_input(self, input.shape, self.in_channels, self.axes)
        check_floating(self, input=input)
        check_against_weight(self, input, self.weight)
        x = self._batched(input)
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        window = (self.stride, self._cut, extra)
        size = transposed_sizes(x.shape[2:], self.kernel_size, *window, self.dilation)
        if min(*x.shape[2:], *size) < 1:
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(input.shape)}, whose output would have size {size}"
            )
        self.save(x)
        forward, _ = TRANSPOSED_IMPLEMENTATIONS[self.implementation]
        y = forward(x, self.weight, self.bias, *window, self.groups, self.dilation)
        return self._as_given(y, input)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy of the output's shape -> dx of the input's; adds to the gradients of `weight` and `bias`."""
        (x,) = self.saved()
        if dy is None:
            return None
        window = (self.stride, self._cut, self.groups, self.dilation)
        _, backward = TRANSPOSED_IMPLEMENTATIONS[self.implementation]
        needs = self._needs(input_gradient)
        dx, dweight, dbias = backward(self._batched(dy), x, self.weight, *window, needs)
        accumulate(self.weight, dweight)
        accumulate(self.bias, dbias)
        return None if dx is None else self._as_given(dx, dy)

    @property
    def _cut(self) -> Sizes:
        """`padding`, which has been checked not to be a word."""
        assert not isinstance(self.padding, str)
        return self.padding

    def _extra(self, x: Tensor, output_size: Sequence[int]) -> Sizes:
        """The output padding that makes the output as large as asked for."""
        size = tuple(output_size)
        if len(size) == x.dim():
            size = size[-self.axes :]
        axes = zip(x.shape[-self.axes :], self.kernel_size, self.stride, self._cut, self.dilation, strict=True)
        least = tuple(transposed_size(*axis) for axis in axes)
        most = tuple(length + step - 1 for length, step in zip(least, self.stride, strict=True))
        fits = len(size) == self.axes and all(a <= s <= b for a, s, b in zip(least, size, most, strict=True))
        if not fits:
            raise ValueError(
                f"{self!r}: given output_size={tuple(output_size)}, expected from {least} to {most} for an input of "
                f"shape {tuple(x.shape)}"
            )
        return tuple(s - a for s, a in zip(size, least, strict=True))

    def extra_repr(self) -> str:
        extra = "" if not any(self.output_padding) else f", output_padding={self.output_padding}"
        return super().extra_repr() + extra


class ConvTranspose1d(ConvTranspose):
    """`ConvTranspose` along one axis: x (N, C, L) -> y (N, O, S). Twin of torch.nn.ConvTranspose1d."""

    axes = 1


class ConvTranspose2d(ConvTranspose):
    """`ConvTranspose` of images: x (N, C, H, W) -> y (N, O, S, T). Twin of torch.nn.ConvTranspose2d."""

    axes = 2


class ConvTranspose3d(ConvTranspose):
    """`ConvTranspose` of volumes: x (N, C, D, H, W) -> y (N, O, S, T, U). Twin of torch.nn.ConvTranspose3d."""

    axes = 3
