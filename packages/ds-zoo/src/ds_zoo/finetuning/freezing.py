"""Parts of a model that are not trained, by name. Theory: docs/finetuning/freezing.md."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ds_zoo.finetuning.names import check_patterns, fits_nothing, starts_with


def freeze(model: Any, patterns: Sequence[str]) -> None:
    """Freeze every parameter whose name, or a part that it begins with, fits one of the patterns.

    `tokens` is that part, `blocks.0` the first block, `blocks.[0-5]` the first six, `*.bias` every bias.
    A parameter that stands under several names (a tied one) is frozen if one of them fits.

    Raises:
        ValueError: a pattern that fits nothing, or no parameter is left to train.
        TypeError: one text instead of a sequence of them.
    """
    found = matching(model, patterns, "freeze")
    frozen = {id(tensor) for tensor in found}
    if patterns and not any(tensor.requires_grad and id(tensor) not in frozen for tensor in model.parameters()):
        raise ValueError(f"freeze: {', '.join(patterns)} leave no parameter to train")
    for tensor in found:
        tensor.requires_grad_(False)


def matching(model: Any, patterns: Sequence[str], owner: str) -> list[Tensor]:
    """The parameters that fit one of the patterns, each once; `owner` is who asks, for messages.

    Raises:
        ValueError: a pattern that fits nothing.
        TypeError: one text instead of a sequence of them.
    """
    check_patterns(owner, patterns)
    named = list(model.named_parameters(remove_duplicate=False))
    found: dict[int, Tensor] = {}
    for pattern in patterns:
        fitting = {id(tensor): tensor for name, tensor in named if starts_with(name, pattern)}
        if not fitting:
            parts = (name.rpartition(".")[0] or name for name, _ in named)
            raise ValueError(f"{owner}: {fits_nothing(pattern, 'parameter', parts)}")
        found |= fitting
    return list(found.values())
