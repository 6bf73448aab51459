"""An image at another size, with the arguments of PyTorch's function. Theory: docs/interpolate.md."""

from collections.abc import Sequence

from ds_core.arguments import check_tensors
from torch import Tensor

from ds_cnn.resampling.resample import resample, resample_backward
from ds_cnn.resampling.resampling_options import Options, check_gradient, check_image, resampling


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """input (N, C, W), (N, C, H, W) or (N, C, D, H, W) -> the same image of another size.

    Twin of torch.nn.functional.interpolate.

    Args:
        input: floating; for the nearest modes also uint8.
        size: of the output: one int, or one for each axis behind the channels.
        scale_factor: output size / input size, rounded down; either this or `size`.
        mode: "nearest", "nearest-exact", "linear" (one axis), "bilinear" or "bicubic" (two), "trilinear" (three),
            "area" (means of what each output covers), "lanczos" (two, with `antialias`).
        align_corners: whether the centres of the corner pixels are kept, or (None, False) the image's edges.
        recompute_scale_factor: sample with the ratio of the sizes instead of `scale_factor`.
        antialias: for smaller images: widen the kernel, so that no position is left out ("bilinear", "bicubic").

    Raises:
        ValueError: for arguments that exclude each other, a size below 1, or a factor that is not positive and finite.
        TypeError: for an input that is no tensor, a size that is no int, or a factor that is no number.
        ShapeError: for an input of another rank than the mode is for, or an output without positions.
    """
    check_tensors("interpolate", input=input)
    check_image("interpolate", input, mode)
    options = Options(size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    kernel, axes = resampling("interpolate", input.shape[2:], options)
    return resample(input, axes, kernel)


def interpolate_backward(
    dy: Tensor,
    input_size: Sequence[int],
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """dy in the shape of `interpolate`'s output -> dinput (N, C, *input_size).

    Args:
        dy: the gradient of the output.
        input_size: the sizes of the input behind its channels, `input.shape[2:]`.
        size, scale_factor, mode, align_corners, recompute_scale_factor, antialias: as they were given to `interpolate`.

    Raises:
        ShapeError: `dy` is not in the shape of that output.
        ValueError, TypeError: as `interpolate`.
    """
    check_tensors("interpolate_backward", dy=dy)
    options = Options(size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    kernel, axes = resampling("interpolate_backward", input_size, options)
    check_gradient("interpolate_backward", dy, axes)
    return resample_backward(dy, axes, kernel)
