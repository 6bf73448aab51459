"""What an optimizer is given to optimize: groups of parameters, each with options of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


def as_groups(params: Parameters) -> list[dict[str, Any]]:
    """`params` as a list of groups: an iterable of tensors, or of (name, tensor), is one group.

    Raises:
        TypeError: `params` is a single tensor, a layer or nothing that can be gone through.
        ValueError: `params` is empty.
    """
    if isinstance(params, Tensor):
        raise TypeError(
            "params argument given to the optimizer should be an iterable of Tensors or dicts, "
            f"but got a Tensor of shape {tuple(params.shape)}: write [tensor]"
        )
    if hasattr(params, "parameters"):
        name = type(params).__name__ if not isinstance(params, type) else params.__name__
        raise TypeError(
            f"params argument given to the optimizer should be an iterable of Tensors or dicts, but got {name} itself: "
            "write its parameters(), as in AdamW(model.parameters())"
        )
    if not isinstance(params, Iterable):
        raise TypeError(
            "params argument given to the optimizer should be an iterable of Tensors or dicts, such as "
            f"model.parameters(), but got {params!r:.80}"
        )
    items: list[Any] = list(params)
    if len(items) == 0:
        raise ValueError("optimizer got an empty parameter list")
    return [dict(item) for item in items] if isinstance(items[0], dict) else [{"params": items}]


def complete_group(
    group: Mapping[str, Any], defaults: Mapping[str, Any], others: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """A new group with `params` as a list of tensors, `param_names` where names were given, and all options set.

    Raises:
        TypeError: the parameters are unordered, or one is no tensor.
        ValueError: a parameter is no leaf, is complex, or is there twice (in this group or in `others`),
            or some parameters have names and some have none.
    """
    if not isinstance(group, Mapping):
        raise TypeError(f"param_group must be a dict, but got {type(group)}")
    given = group["params"]
    if isinstance(given, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the order of tensors in a set "
            "changes between runs: use a list instead"
        )
    items: list[Any] = [given] if isinstance(given, Tensor) else list(given)
    names = [item[0] for item in items if isinstance(item, tuple)]
    tensors = [item[1] if isinstance(item, tuple) else item for item in items]
    if names and len(names) != len(tensors):
        raise ValueError("all optimizer params should be with/without names. Some param names are missing")
    others = list(others)
    for other in others:
        if ("param_names" in other) != bool(names):
            raise ValueError(
                "all optimizer param groups should be with/without names. cannot add param group "
                f"{'with' if names else 'without'} names to the optimizer"
            )
    for tensor in tensors:
        _check_parameter(tensor)
    _check_duplicates(tensors, others)
    complete = {**group, "params": tensors}
    if names:
        complete["param_names"] = names
    for name, default in defaults.items():
        complete.setdefault(name, default)
    return complete


def _check_parameter(tensor: Any) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {torch.typename(tensor)}")
    if not (tensor.is_leaf or tensor.retains_grad):
        raise ValueError(f"can't optimize a non-leaf Tensor (of shape {tuple(tensor.shape)})")
    if tensor.is_complex():
        raise ValueError(
            f"complex parameters are not supported: given one of shape {tuple(tensor.shape)}, {tensor.dtype}; "
            "keep real and imaginary parts as real parameters"
        )


def _check_duplicates(tensors: list[Tensor], others: list[Mapping[str, Any]]) -> None:
    if len({id(tensor) for tensor in tensors}) != len(tensors):
        raise ValueError("some parameters appear more than once in a parameter group")
    elsewhere = {id(tensor) for other in others for tensor in other["params"]}
    if any(id(tensor) in elsewhere for tensor in tensors):
        raise ValueError("some parameters appear in more than one parameter group")


def check_at_least_zero(name: str, value: Any) -> None:
    """Raise ValueError for a negative number and for NaN."""
    if not value >= 0:
        raise ValueError(f"Invalid {name}: {value}")


def check_betas(values: Iterable[Any]) -> None:
    """Raise ValueError unless each, the share of a mean that is left after a step, is from 0 up to below 1."""
    for index, value in enumerate(values):
        if not 0 <= value < 1:
            raise ValueError(f"Invalid beta parameter at index {index}: {value}")


def check_learning_rate(value: Any) -> None:
    """Raise ValueError unless `value` is one number of at least 0, as a Python number or a tensor."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    check_at_least_zero("learning rate", value)


def decay_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: decay for matrices, none for vectors: biases and scales have no reason to be near zero."""
    parameters = list(model.parameters())
    return [
        {"params": [tensor for tensor in parameters if tensor.dim() >= 2], "weight_decay": weight_decay},
        {"params": [tensor for tensor in parameters if tensor.dim() < 2], "weight_decay": 0.0},
    ]
