"""What backward reads must be what forward saw: tensors have a version, which every change in place counts up.

Autograd keeps the version of each tensor it saves and compares it in backward. So does the trace, for what a layer
saves and for the parameters that its backward will read. `docs/trace.md` says what it costs and what slips through.
The functions here run at every call of every layer, so they make few calls themselves.
"""

from collections.abc import Sequence
from operator import is_
from typing import Any

from torch import Tensor
from torch.compiler import is_compiling

from ds_core.engine.attributes import NEVER_LAYERS
from ds_core.engine.nested_values import leaves

# The parameters that backward will read; the versions of the tensors that were saved, and then of these.
Snapshot = tuple[list[Tensor], list[int]]


def snapshot(layer: Any, saved: Sequence[Any]) -> Snapshot | None:
    """What the backward of this call of `layer` will read, as forward leaves it.

    None for tensors that have no version: those of a compiled step, and of `torch.inference_mode`.
    """
    if is_compiling():
        return None
    parameters = parameters_read_by(layer)
    try:
        return parameters, [tensor._version for tensor in [*tensors_in(saved), *parameters]]
    except RuntimeError:  # an inference tensor, which nothing outside that mode can change in place
        return None


def difference(layer: Any, saved: Sequence[Any], before: Snapshot) -> str | None:
    """What has changed since, in words; None if nothing has."""
    parameters, versions = before
    now, kept = parameters_read_by(layer), tensors_in(saved)
    if [tensor._version for tensor in [*kept, *now]] == versions and all(map(is_, now, parameters)):
        return None
    changed = [tensor._version != old for tensor, old in zip([*kept, *parameters], versions, strict=False)]
    for number, tensor in enumerate(kept):
        if changed[number]:
            which = "the tensor" if len(kept) == 1 else f"tensor {number + 1} of the {len(kept)} that"
            return f"{which} it keeps for backward, of shape {tuple(tensor.shape)}, was changed in place"
    for number, tensor in enumerate(parameters):
        if changed[len(kept) + number]:
            return f"its parameter {_name_of(layer, tensor)}, of shape {tuple(tensor.shape)}, was changed in place"
        if not any(tensor is other for other in now):
            return f"a parameter of shape {tuple(tensor.shape)} was replaced by another one"
    return "what it keeps for backward, or its parameters, are no longer as many"


def tensors_in(saved: Sequence[Any]) -> list[Tensor]:
    """The tensors among what was saved, in order, at any depth."""
    found = []
    for value in saved:
        if isinstance(value, Tensor):
            found.append(value)
        elif type(value) not in NEVER_LAYERS:
            found += [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]
    return found


def parameters_read_by(layer: Any) -> list[Tensor]:
    """The parameters of a layer and of those below it; none if its backward does not read their values."""
    reads = getattr(layer, "backward_reads_parameters", None)
    if reads is None:  # no Module
        return list(layer.parameters())
    if not reads:
        return []
    attributes = layer.__dict__
    if attributes.get("_may_hold_layers"):
        return list(layer.parameters())
    kinds = attributes.get("_kinds")
    if kinds is None:
        return []
    return [
        tensor
        for name, kind in kinds.items()
        if kind == "parameter" and isinstance(tensor := attributes.get(name), Tensor)
    ]


def _name_of(layer: Any, tensor: Tensor) -> str:
    named = layer.named_parameters() if hasattr(layer, "named_parameters") else ()
    return next((name for name, other in named if other is tensor), "(unnamed)")
