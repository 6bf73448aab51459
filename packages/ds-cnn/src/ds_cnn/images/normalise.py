"""Every channel to mean 0 and variance 1, by what the training images are like. Theory: docs/augmentation.md."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from ds_core import ShapeError, UserError
from ds_core.arguments import check_tensors
from ds_core.atomic_files import write_atomically
from torch import Tensor

# N = images, C = channels, H, W = height and width

_CHUNK = 2**22  # numbers that are float64 at a time


class Normalise:
    """y = (x - mean) / std for each channel; images of whole numbers become floating.

    Args:
        mean, std: one number for each channel, in the units of the images (0 to 255 for uint8).
        dtype: of the result; None: that of floating images, the default dtype for others.

    Raises:
        ValueError: different numbers of them, none, or ones that are not finite, or a `std` that is not positive.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype | None = None) -> None:
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        finite = all(map(math.isfinite, self.mean + self.std))
        if not finite or not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                f"Normalise: given mean={self.mean} and std={self.std}, expected as many of one as of the other, all "
                "finite, and std above 0"
            )
        self.dtype = dtype

    @classmethod
    def fit(cls, images: Tensor | Iterable[Tensor], dtype: torch.dtype | None = None) -> "Normalise":
        """Mean and standard deviation of each channel over all pixels of the training images.

        A channel of one value has the standard deviation 1, so that it becomes 0.

        Args:
            images: (N, C, H, W), or batches of them: `(images for images, _ in Loader(folder, 64).epoch(0))`.

        Raises:
            ShapeError: another shape, no images, or batches with different numbers of channels.
            ValueError: infinite numbers or NaN.
        """
        count, mean, squares = 0, torch.zeros(()), torch.zeros(())
        for chunk in _chunks([images] if isinstance(images, Tensor) else images):
            if count and len(mean) != chunk.shape[1]:
                raise ShapeError(f"Normalise: given {chunk.shape[1]} channels after {len(mean)}, expected as many")
            pixels = chunk.double().transpose(0, 1).flatten(1)  # (C, n H W)
            new = pixels.shape[1]
            new_mean = pixels.mean(1)
            new_squares = (pixels - new_mean[:, None]).square().sum(1)
            # mu = (n1 mu1 + n2 mu2) / n, s = s1 + s2 + n1 n2 / n (mu2 - mu1)^2                           (5)
            difference = new_mean - mean
            squares = squares + new_squares + difference.square() * (count * new / (count + new))
            mean = mean + difference * (new / (count + new))
            count += new
        if count == 0:
            raise ShapeError("Normalise: given no images, expected at least one")
        if not bool(torch.isfinite(mean).all()):
            raise ValueError("Normalise: given infinite numbers or NaN, expected finite ones")
        std = (squares / count).sqrt()  # sigma = sqrt(s / n)
        constant = std <= count * mean.abs() * torch.finfo(torch.float64).eps  # mere rounding
        return cls(mean.tolist(), torch.where(constant, 1.0, std).tolist(), dtype)

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) or (C, H, W) -> the same shape, floating.

        Raises:
            ShapeError: another number of channels.
        """
        check_tensors("Normalise", images=images)
        if images.dim() not in (3, 4) or images.shape[-3] != len(self.mean):
            expected = f"(N, {len(self.mean)}, H, W) or ({len(self.mean)}, H, W)"
            raise ShapeError(f"Normalise: given shape {tuple(images.shape)}, expected {expected}")
        floating = images.dtype if images.is_floating_point() else torch.get_default_dtype()
        images = images.to(self.dtype or floating)
        mean, std = (images.new_tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.std))
        return (images - mean) / std  # y[n, c, h, w] = (x[n, c, h, w] - mu[c]) / sigma[c]               (4)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write mean and std as JSON, to be read by `load`.

        Raises:
            WriteError: the file cannot be written.
        """
        write_atomically(Path(path), json.dumps({"mean": self.mean, "std": self.std}) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str], dtype: torch.dtype | None = None) -> "Normalise":
        """What `save` has written, bit for bit.

        Raises:
            UserError: a file that is missing or not as `save` writes it.
        """
        try:
            found = json.loads(Path(path).read_text("utf-8"))
            return cls(found["mean"], found["std"], dtype)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} does not hold the mean and std of channels: {error!r}") from error

    def __repr__(self) -> str:
        mean, std = (", ".join(f"{number:.4g}" for number in numbers) for numbers in (self.mean, self.std))
        return f"Normalise(mean=({mean}), std=({std}))"


def _chunks(batches: Iterable[Tensor]) -> Iterable[Tensor]:
    """The images, a few at a time."""
    for images in batches:
        if images.dim() != 4 or images.shape[1:].numel() == 0:
            raise ShapeError(f"Normalise: given shape {tuple(images.shape)}, expected (N, C, H, W)")
        if len(images):
            yield from torch.split(images, max(1, _CHUNK // images.shape[1:].numel()))
