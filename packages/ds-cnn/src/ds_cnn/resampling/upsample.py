"""The layer that brings images to another size. Theory: docs/upsample.md."""

from collections.abc import Sequence
from typing import Literal

from ds_core import Module
from ds_core.arguments import check_implementation
from torch import Tensor

from ds_cnn.resampling.resample import plain_resample, plain_resample_backward, resample, resample_backward
from ds_cnn.resampling.resampling_options import Options, check_image, check_options, resampling

IMPLEMENTATIONS = {
    "vectorized": (resample, resample_backward),
    "loops": (plain_resample, plain_resample_backward),
}


class Upsample(Module):
    """`interpolate` as a layer: images made larger, or smaller.

    Twin of torch.nn.Upsample. It has no parameters.

    Args:
        size: of the output: one int, or one for each axis behind the channels.
        scale_factor: output size / input size, rounded down; either this or `size`.
        mode: "nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic" or "area".
        align_corners: whether the centres of the corner pixels are kept, or (None, False) the image's edges.
        recompute_scale_factor: sample with the ratio of the sizes instead of `scale_factor`.
        implementation: "vectorized", or "loops", output by output as the formula says, for reading.

    Raises:
        ValueError, TypeError: for arguments that make no sense, when the layer is made.
        ShapeError: from `forward`, for an input of another rank than the mode is for, or an output without positions.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor
        self.implementation = implementation
        check_options("Upsample", self._options())
        check_implementation(self, implementation, IMPLEMENTATIONS)

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, *S) -> y (N, C, *O), with one to three axes behind the channels."""
        check_image(self, input, self.mode)
        kernel, axes = resampling(self, input.shape[2:], self._options())
        self.save(kernel, axes)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        return forward(input, axes, kernel)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy (N, C, *O) -> dx (N, C, *S)."""
        kernel, axes = self.saved()
        if dy is None:
            return None
        _, backward = IMPLEMENTATIONS[self.implementation]
        return backward(dy, axes, kernel)

    def _options(self) -> Options:
        return Options(self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor)

    def extra_repr(self) -> str:
        how = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{how}, mode={self.mode!r}"
