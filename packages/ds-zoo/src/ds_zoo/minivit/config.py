"""The sizes of a MiniViT, and transformers' config.json of them. Theory: docs/minivit/pretrained.md."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ds_core.arguments import probability, real_number, whole_number
from ds_core.training.pretrained_files import check_fixed


@dataclass(frozen=True)
class MiniViTConfig:
    """The sizes of a MiniViT; the defaults are ViT-B/16's (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020).

    Args:
        image_size: height and width of the images.
        patch_size: height and width of a patch; what is left of the image at the right and the bottom is not looked at.
        num_channels: 3 for colours, 1 for grey.
        num_layers: how many blocks follow one another.
        num_heads: attention heads in a block; must divide `embed_dim`.
        embed_dim: E, the length of a token's vector.
        hidden_dim: the width inside the feed-forward layers.
        dropout: the share of activations dropped in training, after the embedding and at the end of each branch.
        attention_dropout: the share of the probabilities of attention that are dropped in training.
        epsilon: what the normalisations add to the variance.
        qkv_bias: whether the projections to queries, keys and values have a bias; the one after attention always has.
        pooler_dim: the width of the pooler's output; None: E.
        initializer_range: the standard deviation of the initial weights.

    Raises:
        TypeError, ValueError: a size is no positive whole number, `num_heads` does not divide `embed_dim`, no patch
            fits into the image, a dropout is outside 0 to 1, epsilon or the deviation is not positive.
    """

    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    num_layers: int = 12
    num_heads: int = 12
    embed_dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.0
    attention_dropout: float = 0.0
    epsilon: float = 1e-12
    qkv_bias: bool = True
    pooler_dim: int | None = None
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        owner = type(self).__name__
        sizes = ("image_size", "patch_size", "num_channels", "num_layers", "num_heads", "embed_dim", "hidden_dim")
        for name in (*sizes, *(() if self.pooler_dim is None else ("pooler_dim",))):
            whole_number(owner, name, getattr(self, name))
        if self.embed_dim % self.num_heads:
            raise ValueError(f"{owner}: {self.num_heads} heads do not divide an embed_dim of {self.embed_dim}")
        if self.patch_size > self.image_size:
            raise ValueError(f"{owner}: no patch of {self.patch_size} pixels fits into an image of {self.image_size}")
        for name in ("dropout", "attention_dropout"):
            probability(owner, name, getattr(self, name))
        for name in ("epsilon", "initializer_range"):
            if not real_number(owner, name, getattr(self, name)) > 0:
                raise ValueError(f"{owner}: {name} is {getattr(self, name)}, expected a positive number")
        if not isinstance(self.qkv_bias, bool):
            raise TypeError(f"{owner}: qkv_bias is {self.qkv_bias!r}, expected True or False")

    @property
    def num_tokens(self) -> int:
        """Of an image of `image_size`: the class token and the patches."""
        return 1 + (self.image_size // self.patch_size) ** 2


# Our fields and transformers'
_NAMES = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "num_channels",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "embed_dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "epsilon": "layer_norm_eps",
    "qkv_bias": "qkv_bias",
    "pooler_dim": "pooler_output_size",
    "initializer_range": "initializer_range",
}
# Fields that change the mathematics, and the values of each that MiniViT computes; an absent one has the first
_FIXED = {"model_type": ("vit",), "hidden_act": ("gelu",), "pooler_act": ("tanh",)}


def to_hugging_face(config: MiniViTConfig) -> dict[str, Any]:
    """The fields of the config.json that transformers reads as a ViT of the same sizes."""
    sizes = {theirs: getattr(config, ours) for ours, theirs in _NAMES.items()}
    return {name: allowed[0] for name, allowed in _FIXED.items()} | sizes


def from_hugging_face(given: Mapping[str, Any]) -> MiniViTConfig:
    """Read transformers' config.json of a ViT; an absent field has transformers' default.

    Raises:
        TypeError, ValueError: a model that is no ViT, or one with an option or a size that MiniViT does not have.
    """
    check_fixed("MiniViT", given, _FIXED)
    default = MiniViTConfig()
    values = {item.name: given.get(_NAMES[item.name], getattr(default, item.name)) for item in fields(default)}
    for name in ("image_size", "patch_size"):
        if not isinstance(values[name], int):
            raise TypeError(f"{name} is {values[name]!r}; MiniViT reads one number, of a square")
    config = MiniViTConfig(**values)
    if given.get("head_dim") not in (None, config.embed_dim // config.num_heads):
        raise ValueError(f"head_dim is {given['head_dim']}; MiniViT reads only hidden_size / num_attention_heads")
    return config
