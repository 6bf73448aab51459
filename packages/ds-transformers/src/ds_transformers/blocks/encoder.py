"""A stack of encoder layers. Theory: docs/encoder.md."""

import copy
from typing import Any

from ds_core import Module, Recompute
from ds_core.engine.composition import backward_through
from torch import Tensor

from ds_transformers.attentions.masks import resolve_causal


class TransformerEncoder(Module):
    """y = norm(f_n(... f_1(x))) with n copies of one layer (Vaswani et al., 2017, section 3.1).

    Twin of torch.nn.TransformerEncoder.

    Args:
        encoder_layer: what is copied, weights included, as a `TransformerEncoderLayer`.
        num_layers: n.
        norm: a layer over the last dimension, after the last layer: a pre-norm stack wants one. None: none.
        enable_nested_tensor, mask_check: about PyTorch's own machinery; they change nothing here.
        share_weights: one layer passed n times instead of n copies (Dehghani et al., "Universal Transformers", 2019;
            Lan et al., "ALBERT", 2020). The state_dict then holds `layers.0` alone.
        recompute: keep only each layer's input for backward, and run its forward again there: about a third more
            work for the memory of one layer instead of n.

    Raises:
        ValueError: `num_layers` below 1 with shared weights, below 0 otherwise.
    """

    def __init__(
        self,
        encoder_layer: Any,
        num_layers: int,
        norm: Any = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
        *,
        share_weights: bool = False,
        recompute: bool = False,
    ) -> None:
        self.layers = copies("TransformerEncoder", encoder_layer, num_layers, share_weights)
        self.num_layers = num_layers
        self.norm = norm
        self.recompute = recompute

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """src -> y of the same shape, in the layout of the layers.

        Args:
            mask, src_key_padding_mask: as the layers' `src_mask` and `src_key_padding_mask`.
            is_causal: promises that `mask` is the causal mask; None finds out.

        Raises:
            ShapeError, ValueError, RuntimeError: as the layers do.
        """
        masks = {"src_mask": mask, "src_key_padding_mask": src_key_padding_mask}
        causal = resolve_causal(mask, is_causal)
        calls = calls_of(self.layers, self.num_layers, self.recompute)
        x = src
        for layer in calls:
            x = layer.forward(x, **masks, is_causal=causal)
        y = x if self.norm is None else self.norm.forward(x)
        self.save(calls)
        return y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy -> dsrc, of the shape of src."""
        (calls,) = self.saved()
        layers = calls if self.norm is None else [*calls, self.norm]
        # dx_(k-1) = f_k'^T dx_k, none of it below the first layer that is trained where dsrc is not wanted      (1)
        dsrc: Tensor | None = backward_through(layers, dy, input_gradient=input_gradient)
        return dsrc

    def extra_repr(self) -> str:
        return f"num_layers={self.num_layers}, recompute={self.recompute}"


def copies(stack: str, layer: Any, num_layers: int, share_weights: bool) -> list[Any]:
    """`num_layers` copies of a layer, or the one copy that all of them are."""
    if num_layers < (1 if share_weights else 0):
        raise ValueError(f"{stack}: given num_layers={num_layers}, expected at least {1 if share_weights else 0}")
    return [copy.deepcopy(layer) for _ in range(1 if share_weights else num_layers)]


def calls_of(layers: list[Any], num_layers: int, recompute: bool) -> list[Any]:
    """The layers in the order of their calls, in this forward; each in a `Recompute` where asked."""
    calls = layers if len(layers) == num_layers else layers * num_layers
    return [Recompute(layer) for layer in calls] if recompute else list(calls)
