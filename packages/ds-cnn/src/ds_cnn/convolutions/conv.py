"""The layers Conv1d, Conv2d and Conv3d. Theory: docs/conv.md."""

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from ds_core import Module, ShapeError, accumulate, parameter
from ds_core.arguments import check_implementation
from ds_core.errors import check_against_weight, check_floating, did_you_mean
from ds_core.initializers import kaiming_uniform_, uniform_
from torch import Tensor

from ds_cnn.convolutions.convolution import IMPLEMENTATIONS, convolution_backward
from ds_cnn.convolutions.geometry import Sizes, check_input, output_sizes, per_axis, same_padding
from ds_cnn.padding.pad import Mode, pad, pad_backward

# N = batch, C = in_channels, O = out_channels, g = groups, S = size of the input, P = size of the output,
# K = kernel size; S, P, K one number per spatial axis

# by the name that the layer's argument has
PADDING_MODES: dict[str, Mode] = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}


class Convolution(Module):
    """What all convolutions share: arguments, parameters, their first values. Subclasses say how many axes there are.

    The weight of a transposed convolution has input and output channels exchanged: `transposed`.
    """

    axes: ClassVar[int]
    transposed: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Iterable[int],
        stride: int | Iterable[int],
        padding: str | int | Iterable[int],
        dilation: int | Iterable[int],
        groups: int,
        bias: bool,
        padding_mode: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        implementation: str,
        generator: torch.Generator | None,
    ) -> None:
        name = type(self).__name__
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_axis(kernel_size, self.axes, f"{name}: kernel_size")
        self.stride = per_axis(stride, self.axes, f"{name}: stride")
        self.dilation = per_axis(dilation, self.axes, f"{name}: dilation")
        self.padding = padding if isinstance(padding, str) else per_axis(padding, self.axes, f"{name}: padding")
        self.groups = groups
        self.padding_mode = padding_mode
        self.implementation = implementation
        self._check_arguments(name)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"{name}: given dtype={dtype}, expected a floating dtype")
        channels = (in_channels, out_channels // groups) if self.transposed else (out_channels, in_channels // groups)
        weight = torch.empty(*channels, *self.kernel_size, device=device, dtype=dtype)
        # the slope for which the bound is 1 / sqrt(fan): sqrt(3) sqrt(2 / (1 + 5)) = 1
        self.weight = parameter(kaiming_uniform_(weight, a=math.sqrt(5), generator=generator))
        self.bias: Tensor | None = None
        if bias:
            fan = math.prod(weight.shape[1:])
            bound = 1 / math.sqrt(fan) if fan > 0 else 0.0
            vector = torch.empty(out_channels, device=device, dtype=dtype)
            self.bias = parameter(uniform_(vector, -bound, bound, generator=generator))

    def _check_arguments(self, name: str) -> None:
        for what, number, least in (
            ("in_channels", self.in_channels, 0),
            ("out_channels", self.out_channels, 1),
            ("groups", self.groups, 1),
        ):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ValueError(f"{name}: given {what}={number!r}, expected a whole number of at least {least}")
        for what, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(
                    f"{name}: given {what}={channels} and groups={self.groups}, expected a multiple of the groups"
                )
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                near = did_you_mean(self.padding, ("same", "valid"))
                raise ValueError(f"{name}: given padding={self.padding!r}, expected 'same', 'valid' or numbers{near}")
            if self.padding == "same" and any(stride != 1 for stride in self.stride):
                raise ValueError(f"{name}: padding='same' goes with a stride of 1 only, given stride={self.stride}")
        if self.padding_mode not in PADDING_MODES:
            near = did_you_mean(self.padding_mode, PADDING_MODES)
            raise ValueError(f"{name}: given padding_mode={self.padding_mode!r}, expected {[*PADDING_MODES]}{near}")
        check_implementation(self, self.implementation, IMPLEMENTATIONS)
        for what, numbers, least in (("stride", self.stride, 1), ("dilation", self.dilation, 1)):
            if min(numbers) < least:
                raise ValueError(f"{name}: given {what}={numbers}, expected at least {least}")
        if not isinstance(self.padding, str) and min(self.padding) < 0:
            raise ValueError(f"{name}: given padding={self.padding}, expected at least 0")
        if min(self.kernel_size) < 1:
            raise ValueError(f"{name}: given kernel_size={self.kernel_size}, expected at least 1")

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        defaults = {"padding": (0,) * self.axes, "dilation": (1,) * self.axes, "groups": 1, "padding_mode": "zeros"}
        for name, default in defaults.items():
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)!r}"
        return text if self.bias is not None else f"{text}, bias=False"

    def _batched(self, x: Tensor) -> Tensor:
        """x (N, C, *S) as it is; one image (C, *S) as a batch of one."""
        return x if x.dim() == self.axes + 2 else x.unsqueeze(0)

    def _as_given(self, y: Tensor, given: Tensor) -> Tensor:
        """y, or its one image if `given` was one image."""
        return y if given.dim() == y.dim() else y.squeeze(0)

    def _needs(self, input_gradient: bool) -> tuple[bool, bool, bool]:
        return input_gradient, self.weight.requires_grad, self.bias is not None and self.bias.requires_grad


class Conv(Convolution):
    """y_nop = sum_ck x_ncs w_ock + b_o with s = p stride - padding + k dilation; what Conv1d, Conv2d and Conv3d share.

    LeCun et al., "Backpropagation applied to handwritten zip code recognition", 1989. Input (N, C, *S) or (C, *S),
    output (N, O, *P) or (O, *P) with P = floor((S + 2 padding - dilation (K - 1) - 1) / stride) + 1. Parameters:
    `weight` (O, C/g, *K), `bias` (O,), first uniform in +-1/sqrt(C/g K). Keeps the input.

    Args:
        in_channels: C.
        out_channels: O, the number of filters.
        kernel_size: K; here and below one int, or one for each spatial axis.
        stride: the step from window to window.
        padding: how far the input is extended at either end, or "valid" for nothing, or "same" for as much as keeps
            the size (stride 1 only; an odd rest goes to the end).
        dilation: the step from one number of a window to the next.
        groups: g, parts of the channels that do not see each other; g = C is a depthwise convolution.
        bias: whether b is there.
        padding_mode: what the input is extended by: "zeros", "reflect", "replicate" or "circular".
        implementation: "vectorized" takes the best technique for the shapes, "loops" is the formula product by product,
            for reading; or one technique by its name in `TECHNIQUES`.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: for arguments that make no sense; from `forward`, if the technique asked for does not fit.
        ShapeError: from `forward`, if the input has another shape or dtype, or is smaller than a window.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Iterable[int],
        stride: int | Iterable[int] = 1,
        padding: str | int | Iterable[int] = 0,
        dilation: int | Iterable[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        implementation: str = "vectorized",
        generator: torch.Generator | None = None,
    ) -> None:
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

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, *S) or (C, *S) -> y (N, O, *P) or (O, *P)."""
        self._check_input(input)
        x = self._batched(input)
        self.save(x)
        border, padding = self.border_and_padding()
        padded = x if border is None else pad(x, border, PADDING_MODES[self.padding_mode])
        by = IMPLEMENTATIONS[self.implementation]
        y = by.forward(padded, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return self._as_given(y, input)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy of the output's shape -> dx of the input's; adds to the gradients of `weight` and `bias`."""
        (x,) = self.saved()
        if dy is None:
            return None
        border, padding = self.border_and_padding()
        mode = PADDING_MODES[self.padding_mode]
        padded = x if border is None else pad(x, border, mode)
        window = (self.stride, padding, self.dilation, self.groups)
        dx, dweight, dbias = convolution_backward(
            self._batched(dy), padded, self.weight, *window, self._needs(input_gradient), self.implementation
        )
        accumulate(self.weight, dweight)
        accumulate(self.bias, dbias)
        if dx is None:
            return None
        dx = dx if border is None else pad_backward(dx, x.shape, border, mode)  # dx = pad^T(d pad(x))      (3)
        return self._as_given(dx, dy)

    def border_and_padding(self) -> tuple[Sizes | None, Sizes]:
        """What `pad` puts around the input (last axis first), or None, and the zeros that the convolution assumes."""
        none = (0,) * self.axes
        if self.padding == "valid":
            return None, none
        if isinstance(self.padding, str):
            ends = same_padding(self.kernel_size, self.dilation)
        else:
            ends = tuple((number, number) for number in self.padding)
        if self.padding_mode == "zeros" and all(before == after for before, after in ends):
            return None, tuple(before for before, _ in ends)
        return tuple(number for pair in reversed(ends) for number in pair), none

    def _check_input(self, x: Tensor) -> None:
        check_input(self, x.shape, self.in_channels, self.axes)
        check_floating(self, input=x)
        check_against_weight(self, x, self.weight)
        size = tuple(x.shape[-self.axes :])
        border, padding = self.border_and_padding()
        if border is not None:
            size = tuple(s + b + a for s, b, a in zip(size, border[-2::-2], border[::-2], strict=True))
        if min(size) < 1 or min(output_sizes(size, self.kernel_size, self.stride, padding, self.dilation)) < 1:
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(x.shape)}, which with its padding is smaller than one window"
            )


class Conv1d(Conv):
    """`Conv` along one axis, such as time: x (N, C, L) -> y (N, O, P). Twin of torch.nn.Conv1d."""

    axes = 1


class Conv2d(Conv):
    """`Conv` of images: x (N, C, H, W) -> y (N, O, P, Q). Twin of torch.nn.Conv2d."""

    axes = 2


class Conv3d(Conv):
    """`Conv` of volumes or films: x (N, C, D, H, W) -> y (N, O, P, Q, R). Twin of torch.nn.Conv3d."""

    axes = 3
