"""What backward reads must be what forward saw: tensors have a version, which every change in place counts up.

Autograd keeps the version of each tensor it saves and compares it in backward. So does the trace, for what a layer
saves and for the parameters that its backward will read. `docs/trace.md` says what it costs and what slips through.
The functions here run at every call of every layer, so they make few calls themselves.
"""

from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any

from torch import Tensor
from torch.compiler import is_compiling

from ds_core.engine.attributes import NEVER_LAYERS
from ds_core.engine.nested_values import leaves

# A layer's own parameters; others that its backward reads; the versions of what was saved, and then of these.
Snapshot = tuple[list[Tensor], list[Tensor], list[int]]


def snapshot(layer: Any, saved: Sequence[Any], reads: Iterable[Tensor] = ()) -> Snapshot | None:
    """What the backward of this call of `layer` will read, as forward leaves it; None while a step is compiled."""
    if is_compiling():
        return None
    own, others = own_parameters(layer), list(reads)
    return own, others, versions_of([*tensors_in(saved), *own, *others])


def difference(layer: Any, saved: Sequence[Any], before: Snapshot) -> str | None:
    """What has changed since, in words; None if nothing has."""
    own, others, versions = before
    now, kept = own_parameters(layer), tensors_in(saved)
    if versions_of([*kept, *now, *others]) == versions and all(map(is_, now, own)):
        return None
    changed = [new != old for new, old in zip(versions_of([*kept, *own, *others]), versions, strict=False)]
    for number, tensor in enumerate(kept):
        if changed[number]:
            which = "the tensor" if len(kept) == 1 else f"tensor {number + 1} of the {len(kept)} that"
            return f"{which} it keeps for backward, of shape {tuple(tensor.shape)}, was changed in place"
    for number, tensor in enumerate([*own, *others]):
        if changed[len(kept) + number]:
            return f"its parameter {_name_of(layer, tensor)}, of shape {tuple(tensor.shape)}, was changed in place"
        if number < len(own) and not any(tensor is other for other in now):
            return f"a parameter of shape {tuple(tensor.shape)} was replaced by another one"
    return "what it keeps for backward, or its parameters, are no longer as many"


def versions_of(tensors: Sequence[Tensor]) -> list[int]:
    """How often each was changed in place; 0 for those of `torch.inference_mode`, which do not count it."""
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:
        return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


def tensors_in(saved: Sequence[Any]) -> list[Tensor]:
    """The tensors among what was saved, in order, at any depth."""
    found = []
    for value in saved:
        if isinstance(value, Tensor):
            found.append(value)
        elif type(value) not in NEVER_LAYERS:
            found += [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]
    return found


def own_parameters(layer: Any) -> list[Tensor]:
    """The layer's own parameters; none if its backward does not read their values. Layers below watch theirs."""
    reads = getattr(layer, "backward_reads_parameters", None)
    if reads is None:  # no Module
        return list(layer.parameters())
    attributes = layer.__dict__
    kinds = attributes.get("_kinds")
    if kinds is None or not reads:
        return []
    return [
        tensor
        for name, kind in kinds.items()
        if kind == "parameter" and isinstance(tensor := attributes.get(name), Tensor)
    ]


def _name_of(layer: Any, tensor: Tensor) -> str:
    named = layer.named_parameters() if hasattr(layer, "named_parameters") else ()
    return next((name for name, other in named if other is tensor), "(unnamed)")
