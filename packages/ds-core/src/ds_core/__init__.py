"""DeepScratch's engine: layers, losses and optimizers whose every gradient is written by hand."""

from ds_core.__about__ import __version__
from ds_core.activations.gelu import GELU
from ds_core.activations.relu import ReLU
from ds_core.activations.softmax import Softmax
from ds_core.engine.compile_step import compile_step, whole_step
from ds_core.engine.compiled import compilable, compile_pairs
from ds_core.engine.composition import Frozen, Parallel, Residual, Sequential
from ds_core.engine.module import Module
from ds_core.engine.parameter import accumulate, parameter
from ds_core.engine.recompute import Recompute, drawn, replaying
from ds_core.engine.trace import Trace, TraceError, no_record, record, recording, reuse
from ds_core.errors import CheckpointError, ShapeError, StateDictError, UserError
from ds_core.layers.dropout import Dropout
from ds_core.layers.embedding import Embedding
from ds_core.layers.layer_norm import LayerNorm
from ds_core.layers.linear import Linear, linear, linear_backward
from ds_core.losses.cross_entropy import CrossEntropyLoss
from ds_core.optimizers.adam import Adam, AdamW
from ds_core.optimizers.clipping import clip_grad_norm_, clip_grad_value_
from ds_core.optimizers.optimizer import BaseOptimizer
from ds_core.optimizers.sgd import SGD
from ds_core.primitives import BlackBoxError, primitives_only
from ds_core.protocols import Layer, Loss, Optimizer
from ds_core.schedules.schedule import Schedule
from ds_core.schedules.warmup_cosine import WarmupCosineLR
from ds_core.training.callbacks import Callback
from ds_core.training.early_stopping import EarlyStopping
from ds_core.training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ds_core.training.trainer import Trainer

__all__ = [
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "BaseOptimizer",
    "BlackBoxError",
    "Callback",
    "CheckpointError",
    "CrossEntropyLoss",
    "Dropout",
    "EarlyStopping",
    "Embedding",
    "Frozen",
    "Layer",
    "LayerNorm",
    "Linear",
    "Loss",
    "Module",
    "Optimizer",
    "Parallel",
    "ReLU",
    "Recompute",
    "Residual",
    "Schedule",
    "Sequential",
    "ShapeError",
    "Softmax",
    "StateDictError",
    "Trace",
    "TraceError",
    "Trainer",
    "UserError",
    "WarmupCosineLR",
    "__version__",
    "accumulate",
    "clip_grad_norm_",
    "clip_grad_value_",
    "compilable",
    "compile_pairs",
    "compile_step",
    "drawn",
    "linear",
    "linear_backward",
    "load_checkpoint",
    "load_weights",
    "no_record",
    "parameter",
    "primitives_only",
    "record",
    "recording",
    "replaying",
    "reuse",
    "save_checkpoint",
    "whole_step",
]
