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
from ds_core.schedules.noam import NoamLR
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
SCHEDULES = ("cosine", "constant")  # what `make_schedule` makes for any model


def make_optimizer(name: str, model: Module, lr: float, weight_decay: float) -> Any:
    """The optimizer of that name; it decays matrices only."""
    return OPTIMIZERS[name](decay_groups(model, weight_decay), lr=lr)


def make_schedule(
    name: str,
    optimizer: Any,
    steps: int,
    *,
    warmup_steps: int,
    min_lr: float = 0.0,
    factor: float = 1.0,
    embed_dim: int | None = None,
) -> Any:
    """The schedule of a run, the same for every recipe, or None for a constant learning rate.

    Args:
        name: "cosine" rises to the optimizer's learning rate and falls to `min_lr`; "noam" is the schedule of the
            first Transformer; "constant" has no warm-up.
        steps: optimizer steps of the run.
        warmup_steps: over which the rate rises.
        min_lr: where "cosine" ends.
        factor, embed_dim: of "noam", what its formula is multiplied by and the model's width.

    Raises:
        ValueError: another name, or "noam" without the model's width.
    """
    if name == "cosine":
        return WarmupCosineLR(optimizer, warmup_steps, steps, min_lr)
    if name == "noam" and embed_dim is not None:
        return NoamLR(optimizer, embed_dim, warmup_steps, factor=factor)
    if name == "constant":
        return None
    raise ValueError(f"make_schedule: given {name!r}, expected {', '.join(SCHEDULES)}, or noam with an embed_dim")
