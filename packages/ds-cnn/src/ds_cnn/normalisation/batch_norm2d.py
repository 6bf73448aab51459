"""Batch normalisation of images and volumes. Theory: docs/batch_norm2d.md."""

from typing import ClassVar

from ds_core.layers.batch_norm import BatchNorm


class BatchNorm2d(BatchNorm):
    """`ds_core.layers.batch_norm.BatchNorm` of images (N, C, H, W): mean and variance over N, H and W together.

    Twin of torch.nn.BatchNorm2d: same arguments, same parameters and buffers. `implementation="loops"` goes number by
    number, as the formulas say.

    Raises:
        ShapeError: from `forward`, where x is no (N, C, H, W), or where a channel has one number and the batch's own
            variance is asked for.
        TypeError: from `forward`, where x holds integers.
        ValueError: from `forward`, where eps is negative, or 0 with the batch's own variance.
    """

    dimensions: ClassVar[tuple[int, ...] | None] = (4,)


class BatchNorm3d(BatchNorm):
    """`BatchNorm2d` of volumes (N, C, D, H, W). Twin of torch.nn.BatchNorm3d."""

    dimensions: ClassVar[tuple[int, ...] | None] = (5,)
