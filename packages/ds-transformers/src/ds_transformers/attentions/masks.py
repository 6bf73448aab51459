"""The masks that the layers take, as the one that attention takes, `visible`. Theory: docs/masks.md."""

import math
from typing import Any

import torch
from ds_core import ShapeError
from ds_core.engine.guard import refuse_gradient
from ds_core.engine.trace import describe
from einops import rearrange
from torch import Tensor

# B = batch, H = heads, Tq = queries, Tk = keys


def check_masks(
    layer: Any,
    query: Tensor,
    keys: int,
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    is_causal: bool = False,
    batched: bool = True,
) -> None:
    """Raise where the masks do not fit, or `is_causal` says of `attn_mask` what is not so.

    Args:
        layer: whose inputs these are, for messages.
        query: (B, H, Tq, D), with B = 1 where the input has no batch.
        keys: Tk.
        key_padding_mask: (B, Tk) or, not `batched`, (Tk,), boolean with True for keys to ignore, or floating and added.
        attn_mask: (Tq, Tk) or (B H, Tq, Tk), boolean with True for keys not to see, or floating and added.

    Raises:
        ShapeError: another shape, another device, or neither boolean nor floating; also where the mask is not read.
        TypeError: inside `record()`, a mask that requires a gradient, which no backward gives.
        RuntimeError, ValueError: as `check_causal`.
    """
    batch, heads, queries, _ = query.shape
    if attn_mask is not None:
        _check_mask(layer, "attn_mask", attn_mask, [(queries, keys), (batch * heads, queries, keys)], query)
    if key_padding_mask is not None:
        _check_mask(layer, "key_padding_mask", key_padding_mask, [(batch, keys) if batched else (keys,)], query)
    check_causal(layer, attn_mask, is_causal)


def merge_masks(query: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None) -> Tensor | None:
    """Masks that `check_masks` has let pass -> `visible` of `attention`, (B or 1, H or 1, Tq or 1, Tk).

    Returns:
        If all that is given is boolean: boolean, True where a query may see a key. Otherwise floating, to be added.
    """
    masks = []
    if attn_mask is not None:
        several = attn_mask.dim() == 3
        heads = query.shape[1]
        masks.append(rearrange(attn_mask, "(b h) q k -> b h q k", h=heads) if several else attn_mask[None, None])
    if key_padding_mask is not None:
        padding = key_padding_mask if key_padding_mask.dim() == 2 else key_padding_mask.unsqueeze(0)
        masks.append(rearrange(padding, "b k -> b 1 1 k"))
    if not masks:
        return None
    if all(mask.dtype == torch.bool for mask in masks):
        hidden = masks[0] if len(masks) == 1 else masks[0] | masks[1]
        return hidden.logical_not()
    added = [_added(mask, query.dtype) for mask in masks]
    return added[0] if len(added) == 1 else added[0] + added[1]


def add_bias(bias: Tensor, visible: Tensor | None) -> Tensor:
    """A floating bias of the scores, and `visible` as `merge_masks` returns it -> one floating `visible`."""
    if visible is None:
        return bias
    return bias.masked_fill(visible.logical_not(), -math.inf) if visible.dtype == torch.bool else bias + visible


def nan_where_nothing_visible(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """The same as a floating mask, but NaN in rows that hide every key, so that their softmax is, as in PyTorch."""
    added = _added(visible.logical_not(), dtype) if visible.dtype == torch.bool else visible
    return added if added.shape[-1] == 0 else added.masked_fill(added.amax(-1, keepdim=True) == -math.inf, math.nan)


def first_aligned_causal(queries: int, keys: int, like: Tensor) -> Tensor:
    """(Tq, Tk) boolean, True where j <= i: the twin's `is_causal`, aligned with the first key, not the last."""
    return torch.ones(queries, keys, dtype=torch.bool, device=like.device).tril_()


def is_causal_mask(mask: Tensor) -> bool:
    """Whether a mask (..., Tq, Tk) as torch.nn takes it hides the keys j > i and nothing else."""
    if mask.dim() < 2:
        return False
    seen = first_aligned_causal(mask.shape[-2], mask.shape[-1], mask)
    shown = mask.logical_not() if mask.dtype == torch.bool else mask == 0
    hidden = mask if mask.dtype == torch.bool else mask == -math.inf
    return bool(torch.where(seen, shown, hidden).all())


def check_causal(layer: Any, attn_mask: Tensor | None, is_causal: bool) -> None:
    """Hold the promise `is_causal`, that `attn_mask` is the causal mask, against the mask.

    Raises:
        RuntimeError: there is no mask.
        ValueError: it is another mask. (Not while compiling or on the meta device, where it has no values.)
    """
    if not is_causal:
        return
    if attn_mask is None:
        raise RuntimeError(f"{describe(layer)}: is_causal says that attn_mask is the causal mask, but none was given")
    if torch.compiler.is_compiling() or attn_mask.is_meta or _KNOWN.holds(attn_mask):
        return
    if not is_causal_mask(attn_mask):
        raise ValueError(
            f"{describe(layer)}: is_causal=True contradicts attn_mask {tuple(attn_mask.shape)}, which is not the "
            "causal mask (True or -inf for the keys after the query, False or 0 for the others); give that one, or "
            "leave is_causal out"
        )
    _KNOWN.remember(attn_mask)


def resolve_causal(mask: Tensor | None, is_causal: bool | None) -> bool:
    """The `is_causal` of a stack of layers: None finds out whether the mask is the causal one, as torch.nn's do."""
    if is_causal is not None:
        return is_causal
    if mask is None or mask.dim() != 2 or mask.shape[0] != mask.shape[1]:
        return False
    if torch.compiler.is_compiling() or mask.is_meta:
        return False
    if _KNOWN.holds(mask):
        return True
    found = is_causal_mask(mask)
    if found:
        _KNOWN.remember(mask)
    return found


class _KnownCausal:
    """A copy of the mask that was last found to be causal: every layer of a stack is given the same one.

    Its numbers are compared, because nothing else tells of every edit: NumPy and `.data` write without a version.
    """

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def holds(self, mask: Tensor) -> bool:
        last = self.last
        if last is None or (last.shape, last.dtype, last.device) != (mask.shape, mask.dtype, mask.device):
            return False
        return torch.equal(last, mask)

    def remember(self, mask: Tensor) -> None:
        self.last = mask.detach().clone()


_KNOWN = _KnownCausal()


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, -math.inf)


def _check_mask(layer: Any, name: str, mask: Tensor, shapes: list[tuple[int, ...]], query: Tensor) -> None:
    if tuple(mask.shape) not in shapes:
        expected = " or ".join(map(str, dict.fromkeys(shapes)))
        raise ShapeError(f"{describe(layer)}: given {name} {tuple(mask.shape)}, expected {expected}")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ShapeError(f"{describe(layer)}: given {name} of {mask.dtype}, expected torch.bool or a floating dtype")
    if mask.device != query.device:
        raise ShapeError(
            f"{describe(layer)}: given {name} on {mask.device}, expected it on {query.device}, where the inputs are"
        )
    refuse_gradient(layer, **{name: mask})
