"""LoRA for a whole model: layers replaced by ones with an update, and the updates folded into the weights again.

Theory: docs/finetuning/lora.md.
"""

from collections.abc import Sequence
from typing import Any

import torch
from ds_core import Linear
from ds_core.engine.module import walk
from ds_core.layers.replace_layers import replace_layers
from ds_transformers import SelfAttention
from torch import Tensor

from ds_zoo.finetuning.freezing import matching
from ds_zoo.finetuning.lora_layers import LoRALinear, LoRASelfAttention, with_update
from ds_zoo.finetuning.names import check_patterns, ends_with, fits_nothing

_KINDS: dict[type, Any] = {Linear: LoRALinear, SelfAttention: LoRASelfAttention}
_WEIGHTS: dict[type, str] = {LoRALinear: "weight", LoRASelfAttention: "in_proj_weight"}


def add_lora(
    model: Any,
    rank: int,
    alpha: float,
    targets: Sequence[str] = ("attention",),
    *,
    trained: Sequence[str] = (),
    generator: torch.Generator | None = None,
) -> None:
    """Give the layers that `targets` name an update of low rank, and freeze all other parameters.

    Args:
        model: is changed. Each layer's parameters keep their names and stay the same tensors.
        rank, alpha: of `LoRALinear`.
        targets: names of `Linear` and `SelfAttention` layers, or what the names end with, wildcards allowed:
            `attention` is the packed projection of queries, keys and values, `attention.out_proj` what follows it,
            `feed_forward.linear1`, `blocks.[0-3].attention`.
        trained: parts that are trained whole, as `freeze` names them: a head that holds no pretrained weights.
        generator: where each `lora_a` is drawn from.

    Raises:
        ValueError: a target that fits no such layer, a layer with an update already, an impossible rank or alpha;
            nothing has been changed then.
        TypeError: one text instead of a sequence of them, a rank or alpha that is no number.
    """
    check_patterns("add_lora", targets)
    layers: list[tuple[str, Any]] = [
        (name, layer) for name, layer in walk(model) if name and type(layer) in (*_KINDS, *_WEIGHTS)
    ]
    chosen: dict[int, tuple[str, Any]] = {}
    for target in targets:
        fitting = {id(layer): (name, layer) for name, layer in layers if ends_with(name, target)}
        if not fitting:
            raise ValueError(f"add_lora: {fits_nothing(target, 'layer', (name for name, _ in layers))}")
        chosen |= fitting
    if not chosen:
        raise ValueError("add_lora: given no target, expected the name of a layer, such as attention")
    for name, layer in chosen.values():
        if type(layer) in _WEIGHTS:
            raise ValueError(f"add_lora: {name} has an update already")
    kept = matching(model, trained, "add_lora")
    updates = []
    # Linear layers first: an attention is replaced by one that holds what stands in it then, its out_proj
    for kind, with_lora in _KINDS.items():
        layers_of_kind: list[Any] = [layer for _, layer in chosen.values() if isinstance(layer, kind)]
        wrapped = {id(layer): with_update(with_lora, layer, rank, alpha, generator) for layer in layers_of_kind}
        _replace(model, kind, wrapped)
        updates += [tensor for layer in wrapped.values() for tensor in (layer.lora_a, layer.lora_b)]
    model.requires_grad_(False)
    for tensor in (*updates, *kept):
        tensor.requires_grad_(True)


def has_lora(model: Any) -> bool:
    """Whether a layer of the model has an update of low rank."""
    return any(type(layer) in _WEIGHTS for _, layer in walk(model))


def folded_state(model: Any) -> dict[str, Tensor]:
    """The `state_dict` of the model without LoRA that computes the same: W + (alpha / r) B A for each W.

    Of a model that has no LoRA it is `state_dict()` itself. Each sum is a new tensor; the model stays as it is.
    """
    state: dict[str, Tensor] = model.state_dict()
    for path, layer in walk(model):
        if type(layer) not in _WEIGHTS:
            continue
        prefix = f"{path}." if path else ""
        lora_a, lora_b = state.pop(f"{prefix}lora_a"), state.pop(f"{prefix}lora_b")
        name = prefix + _WEIGHTS[type(layer)]
        # In at least float32: half a precision would round the product and the sum
        wide = torch.promote_types(lora_a.dtype, torch.float32)
        update = layer.scale * torch.mm(lora_b.to(wide), lora_a.to(wide))
        state[name] = (state[name].to(wide) + update).to(state[name].dtype)  # W' = W + s B A        (8)
    return state


def _replace(model: Any, kind: type, wrapped: dict[int, Any]) -> None:
    replace_layers(model, kind, lambda layer: wrapped.get(id(layer), layer))
