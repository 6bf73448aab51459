"""Batch normalisation of vectors (N, C) and of sequences (N, C, L). Theory: docs/batch_norm.md."""

from typing import ClassVar

from ds_core.layers.batch_norm import BatchNorm


class BatchNorm1d(BatchNorm):
    """`BatchNorm` of x (N, C) or (N, C, L): mean and variance over N, or over N and L together.

    Twin of torch.nn.BatchNorm1d: same arguments, same parameters and buffers.

    Raises:
        ShapeError: from `forward`, where x is neither, or where a channel has one number and the batch's
            own variance is asked for.
        ValueError: from `forward`, where eps is negative, or 0 with the batch's own variance.
    """

    dimensions: ClassVar[tuple[int, ...] | None] = (2, 3)
