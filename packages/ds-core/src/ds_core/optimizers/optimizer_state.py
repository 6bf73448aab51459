"""What an optimizer keeps: made for one parameter, and for all as torch.optim writes it and back."""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

Groups = list[dict[str, Any]]


def complete_state(
    state: dict[str, Any], parameter: Tensor, tensors: Mapping[str, float], scalars: Mapping[str, float]
) -> bool:
    """Make what `state` lacks, and let its tensors follow if the parameter was moved or cast.

    Args:
        tensors: what each element of these begins as, by name; they have the shape of the parameter.
        scalars: what these begin as, by name; they have no dimensions and stay on the CPU.

    Returns:
        Whether something was lacking.
    """
    lacked = False
    for name, start in scalars.items():
        if state.get(name) is None:
            state[name], lacked = torch.tensor(start, dtype=torch.float32), True
    for name, start in tensors.items():
        tensor = state.get(name)
        if tensor is None:
            state[name], lacked = torch.full_like(parameter, start), True
        elif not _fits(tensor, parameter):
            state[name] = tensor.to(device=parameter.device, dtype=parameter.dtype)
    return lacked


def is_complete(state: Mapping[str, Any], parameter: Tensor, names: Iterable[str], scalars: Iterable[str]) -> bool:
    """Whether `complete_state` would change nothing."""
    return all(state.get(name) is not None for name in scalars) and all(
        state.get(name) is not None and _fits(state[name], parameter) for name in names
    )


def _fits(tensor: Tensor, parameter: Tensor) -> bool:
    return tensor.dtype == parameter.dtype and tensor.device == parameter.device


def to_state_dict(groups: Groups, state: Mapping[Any, Any], copy: Callable[[Any], Any]) -> dict[str, Any]:
    """{"state": {index: {name: value}}, "param_groups": [...]}, the parameters numbered through all groups.

    Args:
        copy: what each value goes through.
    """
    indices: dict[int, int] = {}
    saved = []
    for group in groups:
        for parameter in group["params"]:
            indices[id(parameter)] = len(indices)
        options = {name: copy(value) for name, value in group.items() if name != "params"}
        saved.append({**options, "params": [indices[id(parameter)] for parameter in group["params"]]})
    by_index = {
        indices[id(key)] if isinstance(key, Tensor) else key: (
            {name: copy(value) for name, value in entries.items()} if isinstance(key, Tensor) else copy(entries)
        )
        for key, entries in state.items()
    }
    return {"state": by_index, "param_groups": saved}


def from_state_dict(
    state_dict: Mapping[str, Any],
    groups: Groups,
    names: Callable[[Mapping[str, Any]], Sequence[str]],
    scalars: Container[str],
) -> tuple[Groups, defaultdict[Any, Any]]:
    """(options of each group, state by parameter) from what `to_state_dict` or torch.optim made, all of it copied.

    Args:
        names: the names of the tensors that a group of such options keeps; they take dtype and device of their
            parameters. Those in `scalars` become float32 on the CPU. What an optimizer keeps under other names stays
            as it is, except that tensors go to the device of their parameters.

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
    options = [{name: deepcopy(value) for name, value in group.items() if name != "params"} for group in saved]
    owners = {
        index: (parameter, names({**ours, **loaded}))
        for theirs, ours, loaded in zip(saved, groups, options, strict=True)
        for index, parameter in zip(theirs["params"], ours["params"], strict=True)
    }
    state: defaultdict[Any, Any] = defaultdict(dict)
    for key, entries in state_dict["state"].items():
        if key in owners:
            parameter, declared = owners[key]
            state[parameter] = {}
            for name, value in entries.items():
                if name in scalars:
                    state[parameter][name] = _scalar(value)
                elif name in declared:
                    state[parameter][name] = _like(name, value, key, parameter)
                else:
                    state[parameter][name] = _copied(value, parameter.device)
        else:
            state[key] = deepcopy(entries)
    return options, state


def snapshot(value: Any) -> Any:
    """A copy of `value`, of a tensor alone: not of the larger one that it may be a part of."""
    return value.detach().clone() if isinstance(value, Tensor) else deepcopy(value)


def own_memory(entries: Mapping[str, Any], scalars: Container[str]) -> dict[str, Any]:
    """`entries`, with a copy of each tensor that is a part of a larger one or may be shared, as `scalars` may be."""
    return {
        name: value.clone() if isinstance(value, Tensor) and (name in scalars or _is_part(value)) else value
        for name, value in entries.items()
    }


def _is_part(value: Tensor) -> bool:
    return value.untyped_storage().nbytes() > value.nbytes


def _scalar(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().to("cpu", torch.float32, copy=True).reshape(())


def _like(name: str, value: Any, key: Any, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return deepcopy(value)
    if value.dim() > 0 and value.shape != parameter.shape:
        raise ValueError(
            f"loaded state dict: {name} of parameter {key} has shape {tuple(value.shape)}, "
            f"but the parameter has shape {tuple(parameter.shape)}"
        )
    dtype = parameter.dtype if value.is_floating_point() else value.dtype
    return value.detach().to(device=parameter.device, dtype=dtype, copy=True)


def _copied(value: Any, device: torch.device) -> Any:
    return value.detach().to(device, copy=True) if isinstance(value, Tensor) else deepcopy(value)
