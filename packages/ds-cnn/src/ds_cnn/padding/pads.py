"""Layers that pad: zeros, a constant, a mirror, the edge, the other end. Theory: docs/pad.md."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from ds_core import Module, ShapeError
from ds_core.arguments import check_implementation, real_number
from torch import Tensor

from ds_cnn.convolutions.geometry import per_axis
from ds_cnn.padding.pad import Mode, pad, pad_backward, padded_sizes, plain_pad, plain_pad_backward

IMPLEMENTATIONS = {
    "vectorized": (pad, pad_backward),
    "loops": (plain_pad, plain_pad_backward),
}


class Pad(Module):
    """A border around the last axes of x (..., *S); what all pads share. Nothing is kept but the shape of x.

    Args:
        padding: how much comes before and after: one int for all sides, or (left, right, top, bottom, front, back), as
            many as there are axes. A negative number cuts off.
        implementation: "vectorized", or "loops", position by position as the formulas say, for reading.

    Raises:
        ValueError: for a `padding` of another length, or an unknown implementation.
        ShapeError: from `forward`, where x has another number of dimensions, or is too small for the padding.
    """

    axes: ClassVar[int]
    mode: ClassVar[Mode]

    def __init__(
        self, padding: int | Sequence[int], *, implementation: Literal["vectorized", "loops"] = "vectorized"
    ) -> None:
        self.padding = per_axis(padding, 2 * self.axes, f"{type(self).__name__}: padding")
        self.value = 0.0
        self.implementation = implementation
        check_implementation(self, implementation, IMPLEMENTATIONS)

    def forward(self, input: Tensor) -> Tensor:
        """input (..., *S) -> y, each axis longer by what is before and after it."""
        self._check_input(input)
        padded_sizes(input.shape[input.dim() - self.axes :], self.padding, self.mode, self)
        self.save(input.shape)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        return forward(input, self.padding, self.mode, self.value)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy of the shape of y -> dx of the shape of x."""
        (input_size,) = self.saved()
        _, backward = IMPLEMENTATIONS[self.implementation]
        return None if dy is None else backward(dy, input_size, self.padding, self.mode)

    def _check_input(self, x: Tensor) -> None:
        names = ("D", "H", "W")[-self.axes :] if self.axes > 1 else ("L",)
        inner = ", ".join(names)
        empty = 0 in x.shape[-self.axes - 1 :] and self.mode != "circular"
        if x.dim() not in (self.axes + 1, self.axes + 2) or empty:
            expected = f"(N, C, {inner}) or (C, {inner})"
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected {expected}")

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad(Pad):
    """`Pad` with one value, around the last axes of an x of any number of dimensions.

    Raises:
        TypeError: for a value that is no number; True and False serve an x of them.
    """

    mode: ClassVar[Mode] = "constant"

    def __init__(
        self,
        padding: int | Sequence[int],
        value: float,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(padding, implementation=implementation)
        name = type(self).__name__
        self.value = value if isinstance(value, bool) else real_number(name, "value", value, finite=False)

    def _check_input(self, x: Tensor) -> None:
        if x.dim() < self.axes:
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(x.shape)}, expected {self.axes} dimensions or more"
            )

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ZeroPad(ConstantPad):
    """`Pad` with zeros, around the last axes of an x of any number of dimensions."""

    def __init__(
        self, padding: int | Sequence[int], *, implementation: Literal["vectorized", "loops"] = "vectorized"
    ) -> None:
        super().__init__(padding, 0.0, implementation=implementation)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReflectionPad(Pad):
    """`Pad` with the mirror image of what lies inside, the edge itself not repeated."""

    mode: ClassVar[Mode] = "reflect"


class ReplicationPad(Pad):
    """`Pad` with copies of the edge."""

    mode: ClassVar[Mode] = "replicate"


class CircularPad(Pad):
    """`Pad` with what lies at the other end."""

    mode: ClassVar[Mode] = "circular"


class ConstantPad1d(ConstantPad):
    """`ConstantPad` of sequences (N, C, L). Twin of torch.nn.ConstantPad1d."""

    axes: ClassVar[int] = 1


class ConstantPad2d(ConstantPad):
    """`ConstantPad` of images (N, C, H, W). Twin of torch.nn.ConstantPad2d."""

    axes: ClassVar[int] = 2


class ConstantPad3d(ConstantPad):
    """`ConstantPad` of volumes (N, C, D, H, W). Twin of torch.nn.ConstantPad3d."""

    axes: ClassVar[int] = 3


class ZeroPad1d(ZeroPad):
    """`ZeroPad` of sequences (N, C, L). Twin of torch.nn.ZeroPad1d."""

    axes: ClassVar[int] = 1


class ZeroPad2d(ZeroPad):
    """`ZeroPad` of images (N, C, H, W). Twin of torch.nn.ZeroPad2d."""

    axes: ClassVar[int] = 2


class ZeroPad3d(ZeroPad):
    """`ZeroPad` of volumes (N, C, D, H, W). Twin of torch.nn.ZeroPad3d."""

    axes: ClassVar[int] = 3


class ReflectionPad1d(ReflectionPad):
    """`ReflectionPad` of sequences (N, C, L). Twin of torch.nn.ReflectionPad1d."""

    axes: ClassVar[int] = 1


class ReflectionPad2d(ReflectionPad):
    """`ReflectionPad` of images (N, C, H, W). Twin of torch.nn.ReflectionPad2d."""

    axes: ClassVar[int] = 2


class ReflectionPad3d(ReflectionPad):
    """`ReflectionPad` of volumes (N, C, D, H, W). Twin of torch.nn.ReflectionPad3d."""

    axes: ClassVar[int] = 3


class ReplicationPad1d(ReplicationPad):
    """`ReplicationPad` of sequences (N, C, L). Twin of torch.nn.ReplicationPad1d."""

    axes: ClassVar[int] = 1


class ReplicationPad2d(ReplicationPad):
    """`ReplicationPad` of images (N, C, H, W). Twin of torch.nn.ReplicationPad2d."""

    axes: ClassVar[int] = 2


class ReplicationPad3d(ReplicationPad):
    """`ReplicationPad` of volumes (N, C, D, H, W). Twin of torch.nn.ReplicationPad3d."""

    axes: ClassVar[int] = 3


class CircularPad1d(CircularPad):
    """`CircularPad` of sequences (N, C, L). Twin of torch.nn.CircularPad1d."""

    axes: ClassVar[int] = 1


class CircularPad2d(CircularPad):
    """`CircularPad` of images (N, C, H, W). Twin of torch.nn.CircularPad2d."""

    axes: ClassVar[int] = 2


class CircularPad3d(CircularPad):
    """`CircularPad` of volumes (N, C, D, H, W). Twin of torch.nn.CircularPad3d."""

    axes: ClassVar[int] = 3
