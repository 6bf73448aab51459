"""Optimizers and schedules by name, for the command line."""

from collections.abc import Callable
from typing import Any

from ds_core.engine.module import Module
from ds_core.optimizers.adadelta import Adadelta
from ds_core.optimizers.adagrad import Adagrad
from ds_core.optimizers.adam import Adam, AdamW
from ds_core.optimizers.adamax import Adamax
from ds_core.optimizers.lion import Lion
from ds_core.optimizers.nadam import NAdam
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.optimizers.radam import RAdam
from ds_core.optimizers.rmsprop import RMSprop
from ds_core.optimizers.sgd import SGD
from ds_core.schedules.warmup_cosine import WarmupCosineLR


def _momentum(params: Any, lr: float) -> SGD:
    return SGD(params, lr=lr, momentum=0.9)


def _nesterov(params: Any, lr: float) -> SGD:
    return SGD(params, lr=lr, momentum=0.9, nesterov=True)


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adamw": AdamW,
    "adam": Adam,
    "sgd": SGD,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "adamax": Adamax,
    "nadam": NAdam,
    "radam": RAdam,
    "lion": Lion,
}
SCHEDULES = ("cosine", "constant")


def make_optimizer(name: str, model: Module, lr: float, weight_decay: float) -> Any:
    """An optimizer whose decay is for matrices only."""
    return OPTIMIZERS[name](decay_groups(model, weight_decay), lr=lr)


def make_schedule(name: str, optimizer: Any, steps: int) -> Any:
    """The schedule for a run of `steps`, or None: "cosine" warms up over 5 % of them, 100 at most, and falls to 0."""
    return WarmupCosineLR(optimizer, min(100, steps // 20), steps) if name == "cosine" else None
