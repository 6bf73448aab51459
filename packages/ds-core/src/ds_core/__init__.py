"""DeepScratch's engine: layers, losses and optimizers whose every gradient is written by hand."""

from ds_core.__about__ import __version__
from ds_core.composition import Frozen, Parallel, Residual, Sequential
from ds_core.errors import ShapeError
from ds_core.linear import Linear, linear, linear_backward
from ds_core.module import Module
from ds_core.parameter import accumulate, parameter
from ds_core.protocols import Layer, Loss, Optimizer
from ds_core.recompute import Recompute
from ds_core.trace import Trace, TraceError, no_record, record, recording, reuse

__all__ = [
    "Frozen",
    "Layer",
    "Linear",
    "Loss",
    "Module",
    "Optimizer",
    "Parallel",
    "Recompute",
    "Residual",
    "Sequential",
    "ShapeError",
    "Trace",
    "TraceError",
    "__version__",
    "accumulate",
    "linear",
    "linear_backward",
    "no_record",
    "parameter",
    "record",
    "recording",
    "reuse",
]
