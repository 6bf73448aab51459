"""Convolutional networks whose every gradient is written by hand."""

from ds_cnn.__about__ import __version__
from ds_cnn.pooling.avg_pool2d import (
    AvgPool2d,
    avg_pool2d,
    avg_pool2d_backward,
    plain_avg_pool2d,
    plain_avg_pool2d_backward,
)

__all__ = [
    "AvgPool2d",
    "__version__",
    "avg_pool2d",
    "avg_pool2d_backward",
    "plain_avg_pool2d",
    "plain_avg_pool2d_backward",
]
