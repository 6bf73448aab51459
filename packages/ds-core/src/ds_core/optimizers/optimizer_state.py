"""What an optimizer keeps: made for one parameter, and for all as torch.optim writes it and back."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

Groups = list[dict[str, Any]]


def complete_state(
    state: dict[str, Any], parameter: Tensor, moments: Mapping[str, float], numbers: Mapping[str, float]
) -> bool:
    """Make what `state` lacks, and let its moments follow where the parameter was moved or cast.

    Args:
        moments: what each element of those starts as, by name; of the shape of the parameter.
        numbers: what those start as, by name; of no dimensions, on the CPU.

    Returns:
        Whether something was lacking.
    """
    lacked = False
    for name, start in numbers.items():
        if state.get(name) is None:
            state[name], lacked = torch.tensor(start, dtype=torch.float32), True
    for name, start in moments.items():
        moment = state.get(name)
        if moment is None:
            state[name], lacked = torch.full_like(parameter, start), True
        elif not _fits(moment, parameter):
            state[name] = moment.to(device=parameter.device, dtype=parameter.dtype)
    return lacked


def is_complete(state: Mapping[str, Any], parameter: Tensor, moments: Iterable[str], numbers: Iterable[str]) -> bool:
    """Whether `complete_state` would change nothing."""
    return all(state.get(name) is not None for name in numbers) and all(
        state.get(name) is not None and _fits(state[name], parameter) for name in moments
    )


def _fits(moment: Tensor, parameter: Tensor) -> bool:
    return moment.dtype == parameter.dtype and moment.device == parameter.device


def to_state_dict(groups: Groups, state: Mapping[Any, Any], numbers: Container[str]) -> dict[str, Any]:
    """{"state": {number: {name: value}}, "param_groups": [...]}, the parameters numbered through all groups.

    Moments are the tensors themselves; those named in `numbers` are copies, since some parameters may share them.
    """
    places: dict[int, int] = {}
    packed = []
    for group in groups:
        for parameter in group["params"]:
            places[id(parameter)] = len(places)
        options = {name: value for name, value in group.items() if name != "params"}
        packed.append({**options, "params": [places[id(parameter)] for parameter in group["params"]]})
    by_number = {
        places[id(key)] if isinstance(key, Tensor) else key: (
            {name: value.clone() if name in numbers else value for name, value in entries.items()}
            if isinstance(key, Tensor)
            else entries
        )
        for key, entries in state.items()
    }
    return {"state": by_number, "param_groups": packed}


def from_state_dict(
    state_dict: Mapping[str, Any], groups: Groups, numbers: Container[str]
) -> tuple[Groups, defaultdict[Any, Any]]:
    """(options of each group, state by parameter) from what `to_state_dict` or torch.optim made, all of it copied.

    Tensors take dtype and device of their parameters; those named in `numbers` become float32 on the CPU.

    Raises:
        ValueError: other numbers of groups or parameters than `groups` has, or a tensor of another shape than its
            parameter.
    """
    saved = state_dict["param_groups"]
    given, expected = ([len(group["params"]) for group in some] for some in (saved, groups))
    if len(given) != len(expected):
        raise ValueError(
            f"loaded state dict has a different number of parameter groups: {len(given)}, expected {len(expected)}"
        )
    if given != expected:
        raise ValueError(
            "loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
            f"groups of {given} parameters, expected {expected}"
        )
    parameters = {
        number: parameter
        for theirs, ours in zip(saved, groups, strict=True)
        for number, parameter in zip(theirs["params"], ours["params"], strict=True)
    }
    state: defaultdict[Any, Any] = defaultdict(dict)
    for key, entries in state_dict["state"].items():
        if key in parameters:
            parameter = parameters[key]
            state[parameter] = {
                name: _number(value) if name in numbers else _fit(name, value, key, parameter)
                for name, value in entries.items()
            }
        else:
            state[key] = deepcopy(entries)
    options = [{name: deepcopy(value) for name, value in group.items() if name != "params"} for group in saved]
    return options, state


def own_memory(entries: Mapping[str, Any], numbers: Container[str]) -> dict[str, Any]:
    """`entries`, with a copy of each tensor that is a part of a larger one or may be shared, as `numbers` may be."""
    return {
        name: value.clone() if isinstance(value, Tensor) and (name in numbers or _is_part(value)) else value
        for name, value in entries.items()
    }


def _is_part(value: Tensor) -> bool:
    return value.untyped_storage().nbytes() > value.nbytes


def _number(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().to("cpu", torch.float32, copy=True).reshape(())


def _fit(name: str, value: Any, key: Any, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return deepcopy(value)
    if value.dim() > 0 and value.shape != parameter.shape:
        raise ValueError(
            f"loaded state dict: {name} of parameter {key} has shape {tuple(value.shape)}, "
            f"but the parameter has shape {tuple(parameter.shape)}"
        )
    dtype = parameter.dtype if value.is_floating_point() else value.dtype
    return value.detach().to(device=parameter.device, dtype=dtype, copy=True)
