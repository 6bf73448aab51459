"""The sizes of a MiniCLIP, and transformers' config.json of them. Theory: docs/miniclip/pretrained.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ds_core.arguments import probability, real_number, whole_number
from ds_core.training.pretrained_files import check_fixed


@dataclass(frozen=True)
class TowerConfig:
    """What both towers have: a stack of blocks.

    Args:
        embed_dim: the length of a token's vector.
        num_layers: how many blocks follow one another.
        num_heads: attention heads in a block; must divide `embed_dim`.
        hidden_dim: the width between the two linear layers of a block.
        attention_dropout: the share of attention weights dropped in training.
        epsilon: what the normalisations add to the variance.

    Raises:
        TypeError, ValueError: a size is no positive whole number, `num_heads` does not divide `embed_dim`, the
            dropout is outside [0, 1), epsilon is not positive.
    """

    embed_dim: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    attention_dropout: float = 0.0
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for name in ("embed_dim", "num_layers", "num_heads", "hidden_dim"):
            whole_number(owner, name, getattr(self, name))
        if self.embed_dim % self.num_heads:
            raise ValueError(f"{owner}: {self.num_heads} heads do not divide an embed_dim of {self.embed_dim}")
        if probability(owner, "attention_dropout", self.attention_dropout) == 1:
            raise ValueError(f"{owner}: given attention_dropout=1, expected less")
        if not real_number(owner, "epsilon", self.epsilon) > 0:
            raise ValueError(f"{owner}: given epsilon={self.epsilon}, expected a positive number")


@dataclass(frozen=True)
class TextConfig(TowerConfig):
    """The text tower; the defaults are those of CLIP ViT-B/32.

    Args:
        vocab_size: how many different tokens there are.
        max_length: the most tokens of a text, its first and last one included.
        end_token: the number of the token that ends a text, whose vector stands for all of it; 2 takes the token of
            the largest number instead, which the first published checkpoints need.
        begin_token, pad_token: the numbers of the token that begins a text and of those behind its end. The model does
            not need them; who makes its inputs does.
    """

    embed_dim: int = 512
    num_layers: int = 12
    num_heads: int = 8
    hidden_dim: int = 2048
    vocab_size: int = 49408
    max_length: int = 77
    end_token: int = 49407
    begin_token: int | None = 49406
    pad_token: int | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vocab_size", "max_length"):
            whole_number("TextConfig", name, getattr(self, name))
        whole_number("TextConfig", "end_token", self.end_token, 0)
        for name in ("begin_token", "pad_token"):
            if getattr(self, name) is not None:
                whole_number("TextConfig", name, getattr(self, name), 0)


@dataclass(frozen=True)
class VisionConfig(TowerConfig):
    """The vision tower; the defaults are those of CLIP ViT-B/32.

    Args:
        image_size: height and width of the images.
        patch_size: height and width of a patch.
        num_channels: 3 for colours.
    """

    embed_dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    image_size: int = 224
    patch_size: int = 32
    num_channels: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_size", "patch_size", "num_channels"):
            whole_number("VisionConfig", name, getattr(self, name))
        if self.patch_size > self.image_size:
            raise ValueError(f"VisionConfig: no patch of {self.patch_size} fits into an image of {self.image_size}")


@dataclass(frozen=True)
class MiniCLIPConfig:
    """The sizes of both towers and what joins them (Radford et al., 2021); the defaults are those of CLIP ViT-B/32.

    Args:
        text, vision: the towers.
        projection_dim: the length of the embeddings that are compared.
        logit_scale: the initial value of the learned logarithm of the scale; ln(1 / 0.07).

    Raises:
        TypeError, ValueError: as the towers, or a `projection_dim` that is no positive whole number.
    """

    text: TextConfig = field(default_factory=TextConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    projection_dim: int = 512
    logit_scale: float = 2.6592

    def __post_init__(self) -> None:
        for name, kind in (("text", TextConfig), ("vision", VisionConfig)):
            if not isinstance(getattr(self, name), kind):
                given = type(getattr(self, name)).__name__
                raise TypeError(f"MiniCLIPConfig: given a {given} as {name}, expected a {kind.__name__}")
        whole_number("MiniCLIPConfig", "projection_dim", self.projection_dim)
        real_number("MiniCLIPConfig", "logit_scale", self.logit_scale)


# Our name of each field and transformers'
_TOWER = {
    "embed_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "attention_dropout": "attention_dropout",
    "epsilon": "layer_norm_eps",
}
_TEXT = _TOWER | {
    "vocab_size": "vocab_size",
    "max_length": "max_position_embeddings",
    "end_token": "eos_token_id",
    "begin_token": "bos_token_id",
    "pad_token": "pad_token_id",
}
_VISION = _TOWER | {"image_size": "image_size", "patch_size": "patch_size", "num_channels": "num_channels"}

# Fields that change the mathematics, and the values of each that MiniCLIP computes. Absent they have the first one.
_FIXED = {"model_type": ("clip",), "architectures": (["CLIPModel"], None)}
_FIXED_IN_TOWER = {"hidden_act": ("quick_gelu",)}


def to_hugging_face(config: MiniCLIPConfig) -> dict[str, Any]:
    """The config.json that transformers reads as a CLIP of the same sizes."""

    def tower(part: TowerConfig, names: Mapping[str, str]) -> dict[str, Any]:
        sizes = {theirs: getattr(part, ours) for ours, theirs in names.items()}
        return {**sizes, "hidden_act": "quick_gelu", "projection_dim": config.projection_dim}

    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.projection_dim,
        "logit_scale_init_value": config.logit_scale,
        "initializer_factor": 1.0,
        "text_config": {"model_type": "clip_text_model", **tower(config.text, _TEXT)},
        "vision_config": {"model_type": "clip_vision_model", **tower(config.vision, _VISION)},
    }


def from_hugging_face(given: Mapping[str, Any]) -> MiniCLIPConfig:
    """Read transformers' config.json of a CLIP.

    Raises:
        TypeError, ValueError: another model, or one with an option or a size that MiniCLIP does not have.
    """
    check_fixed("MiniCLIP", given, _FIXED)
    text, vision = _tower(given, "text"), _tower(given, "vision")
    default = MiniCLIPConfig()
    return MiniCLIPConfig(
        TextConfig(**{ours: text[theirs] for ours, theirs in _TEXT.items() if theirs in text}),
        VisionConfig(**{ours: vision[theirs] for ours, theirs in _VISION.items() if theirs in vision}),
        projection_dim=given.get("projection_dim", default.projection_dim),
        logit_scale=given.get("logit_scale_init_value", default.logit_scale),
    )


def _tower(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The fields of one tower. Published files may hold them twice; transformers then takes those of `..._dict`."""
    found = given.get(f"{name}_config_dict")
    if found is None:
        found = given.get(f"{name}_config")
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise TypeError(f"{name}_config is {found!r:.40}, expected an object")
    check_fixed("MiniCLIP", found, _FIXED_IN_TOWER)
    return found
