"""The optimizer of every recipe here: AdamW, a rate for every layer. Theory: docs/finetuning/layer_decay.md."""

from typing import Any

from ds_core import AdamW

from ds_zoo.finetuning.layer_decay import parameter_groups


def make_adamw(model: Any, options: Any) -> AdamW:
    """AdamW over the groups of `parameter_groups`, which have their own weight decay.

    Args:
        options: of a recipe: `FineTuningOptions` with `lr`, `beta1`, `beta2` and `weight_decay`.
    """
    groups = parameter_groups(model, weight_decay=options.weight_decay, lr=options.lr, layer_decay=options.layer_decay)
    return AdamW(groups, lr=options.lr, betas=(options.beta1, options.beta2), weight_decay=0.0)
