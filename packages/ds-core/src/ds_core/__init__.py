"""DeepScratch's engine: layers, losses and optimizers whose every gradient is written by hand."""

from ds_core.__about__ import __version__
from ds_core.activations.celu import CELU
from ds_core.activations.elu import ELU
from ds_core.activations.gelu import GELU
from ds_core.activations.glu import GLU
from ds_core.activations.hardsigmoid import Hardsigmoid
from ds_core.activations.hardswish import Hardswish
from ds_core.activations.hardtanh import Hardtanh
from ds_core.activations.leaky_relu import LeakyReLU
from ds_core.activations.log_sigmoid import LogSigmoid
from ds_core.activations.log_softmax import LogSoftmax
from ds_core.activations.mish import Mish
from ds_core.activations.prelu import PReLU
from ds_core.activations.quick_gelu import QuickGELU
from ds_core.activations.relu import ReLU
from ds_core.activations.relu6 import ReLU6
from ds_core.activations.selu import SELU
from ds_core.activations.sigmoid import Sigmoid
from ds_core.activations.silu import SiLU
from ds_core.activations.softmax import Softmax
from ds_core.activations.softmin import Softmin
from ds_core.activations.softplus import Softplus
from ds_core.activations.softsign import Softsign
from ds_core.activations.tanh import Tanh
from ds_core.distributed.data_parallel import DataParallel
from ds_core.distributed.processes import Processes
from ds_core.engine.composition import Frozen, Parallel, Residual, Sequential
from ds_core.engine.module import Module
from ds_core.engine.parameter import accumulate, parameter
from ds_core.engine.recompute import Recompute, drawn, replaying
from ds_core.engine.trace import Trace, TraceError, no_record, record, recording, reuse
from ds_core.errors import CheckpointError, ShapeError, StateDictError, UserError
from ds_core.layers.alpha_dropout import AlphaDropout
from ds_core.layers.batch_norm1d import BatchNorm1d
from ds_core.layers.bilinear import Bilinear
from ds_core.layers.dropout import Dropout
from ds_core.layers.embedding import Embedding
from ds_core.layers.flatten import Flatten
from ds_core.layers.group_norm import GroupNorm
from ds_core.layers.identity import Identity
from ds_core.layers.layer_norm import LayerNorm
from ds_core.layers.linear import Linear, linear, linear_backward
from ds_core.layers.rms_norm import RMSNorm
from ds_core.layers.sync_batch_norm import SyncBatchNorm
from ds_core.layers.unflatten import Unflatten
from ds_core.losses.bce import BCELoss
from ds_core.losses.bce_with_logits import BCEWithLogitsLoss
from ds_core.losses.classifier_loss import ClassifierLoss, ClassifierOutput
from ds_core.losses.cosine_embedding import CosineEmbeddingLoss
from ds_core.losses.cross_entropy import CrossEntropyLoss
from ds_core.losses.hinge_embedding import HingeEmbeddingLoss
from ds_core.losses.huber import HuberLoss
from ds_core.losses.kl_div import KLDivLoss
from ds_core.losses.l1 import L1Loss
from ds_core.losses.margin_ranking import MarginRankingLoss
from ds_core.losses.mse import MSELoss
from ds_core.losses.multi_margin import MultiMarginLoss
from ds_core.losses.nll import NLLLoss
from ds_core.losses.perceptron import PerceptronLoss
from ds_core.losses.smooth_l1 import SmoothL1Loss
from ds_core.losses.soft_margin import SoftMarginLoss
from ds_core.losses.token_cross_entropy import TokenCrossEntropy
from ds_core.losses.weighted_sum import WeightedSum
from ds_core.optimizers.adadelta import Adadelta
from ds_core.optimizers.adagrad import Adagrad
from ds_core.optimizers.adam import Adam, AdamW
from ds_core.optimizers.adamax import Adamax
from ds_core.optimizers.clipping import clip_grad_norm_, clip_grad_value_
from ds_core.optimizers.flat_optimizer import FlatOptimizer
from ds_core.optimizers.lion import Lion
from ds_core.optimizers.muon import Muon
from ds_core.optimizers.nadam import NAdam
from ds_core.optimizers.optimizer import BaseOptimizer
from ds_core.optimizers.radam import RAdam
from ds_core.optimizers.rmsprop import RMSprop
from ds_core.optimizers.sgd import SGD
from ds_core.primitives import BlackBoxError, primitives_only
from ds_core.protocols import Layer, Loss, Optimizer
from ds_core.schedules.cosine_lr import CosineAnnealingLR, CosineAnnealingWarmRestarts
from ds_core.schedules.lambda_lr import LambdaLR
from ds_core.schedules.linear_lr import LinearLR, PolynomialLR
from ds_core.schedules.noam import NoamLR
from ds_core.schedules.one_cycle import OneCycleLR
from ds_core.schedules.plateau import ReduceLROnPlateau
from ds_core.schedules.plot import plot_schedule
from ds_core.schedules.schedule import Schedule
from ds_core.schedules.sequential_lr import ChainedScheduler, SequentialLR
from ds_core.schedules.step_lr import ConstantLR, ExponentialLR, MultiStepLR, StepLR
from ds_core.schedules.warmup_cosine import WarmupCosineLR
from ds_core.speed.compiled import compilable, compile_pairs
from ds_core.speed.plain import fast_form, is_plain, plain, plain_form
from ds_core.training.callbacks import Callback
from ds_core.training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ds_core.training.compile_step import compile_step, eager_step, whole_step
from ds_core.training.early_stopping import EarlyStopping
from ds_core.training.evaluation import evaluate, predict
from ds_core.training.gradient_norms import GradientNorms
from ds_core.training.keep_checkpoints import KeepBest, KeepEvery
from ds_core.training.learning_rates import LearningRates
from ds_core.training.tensorboard import TensorBoard
from ds_core.training.trainer import Trainer

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "AlphaDropout",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BaseOptimizer",
    "BatchNorm1d",
    "Bilinear",
    "BlackBoxError",
    "Callback",
    "ChainedScheduler",
    "CheckpointError",
    "ClassifierLoss",
    "ClassifierOutput",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "DataParallel",
    "Dropout",
    "EarlyStopping",
    "Embedding",
    "ExponentialLR",
    "FlatOptimizer",
    "Flatten",
    "Frozen",
    "GradientNorms",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "KeepBest",
    "KeepEvery",
    "L1Loss",
    "LambdaLR",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LearningRates",
    "Linear",
    "LinearLR",
    "Lion",
    "LogSigmoid",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "MarginRankingLoss",
    "Mish",
    "Module",
    "MultiMarginLoss",
    "MultiStepLR",
    "Muon",
    "NAdam",
    "NLLLoss",
    "NoamLR",
    "OneCycleLR",
    "Optimizer",
    "PReLU",
    "Parallel",
    "PerceptronLoss",
    "PolynomialLR",
    "Processes",
    "QuickGELU",
    "RAdam",
    "RMSNorm",
    "RMSprop",
    "ReLU",
    "ReLU6",
    "Recompute",
    "ReduceLROnPlateau",
    "Residual",
    "Schedule",
    "Sequential",
    "SequentialLR",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "Softmax",
    "Softmin",
    "Softplus",
    "Softsign",
    "StateDictError",
    "StepLR",
    "SyncBatchNorm",
    "Tanh",
    "TensorBoard",
    "TokenCrossEntropy",
    "Trace",
    "TraceError",
    "Trainer",
    "Unflatten",
    "UserError",
    "WarmupCosineLR",
    "WeightedSum",
    "__version__",
    "accumulate",
    "clip_grad_norm_",
    "clip_grad_value_",
    "compilable",
    "compile_pairs",
    "compile_step",
    "drawn",
    "eager_step",
    "evaluate",
    "fast_form",
    "is_plain",
    "linear",
    "linear_backward",
    "load_checkpoint",
    "load_weights",
    "no_record",
    "parameter",
    "plain",
    "plain_form",
    "plot_schedule",
    "predict",
    "primitives_only",
    "record",
    "recording",
    "replaying",
    "reuse",
    "save_checkpoint",
    "whole_step",
]
