"""What `ds train translate` can be told, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core import UserError
from ds_core.options import option, preset_option, with_presets
from ds_core.recipes.translation.options import TranslationOptions, ask_for_rate

# Values that differ from the defaults, which are for the shipped sentences. "multi30k" is for 29,000 pairs of captions
# and has nine million parameters; "paper" is the base model of Vaswani et al., 2017, table 3.
PRESETS: dict[str, dict[str, Any]] = {
    "multi30k": {
        "embed_dim": 256,
        "num_heads": 8,
        "dim_feedforward": 1024,
        "num_encoder_layers": 4,
        "num_decoder_layers": 3,
        "dropout": 0.3,
        "vocab_size": 10000,
        "max_tokens": 2500,
        "epochs": 20,
        "lr": 1e-3,
        "warmup_steps": 1000,
        "average": 5,
    },
    "paper": {
        "embed_dim": 512,
        "num_heads": 8,
        "dim_feedforward": 2048,
        "num_encoder_layers": 6,
        "num_decoder_layers": 6,
        "dropout": 0.1,
        "norm_first": False,
        "vocab_size": 37000,
        "max_tokens": 25000,
        "epochs": 30,
        "schedule": "noam",
        "lr": 1.0,
        "warmup_steps": 4000,
        "weight_decay": 0.0,
        "average": 5,
    },
}


@with_presets(PRESETS, ask_for_rate(PRESETS))
@dataclass
class TranslateOptions(TranslationOptions):
    """Options of `ds train translate`."""

    out: Path = option(
        Path("runs/translate"), "the run folder: checkpoint, weights, tokenizers, log, plots", may_change=True
    )
    preset: str = preset_option(PRESETS)

    num_heads: int = option(4, "attention heads", minimum=1)
    dim_feedforward: int = option(512, "width inside the feed-forward networks", minimum=1)
    num_encoder_layers: int = option(2, "layers of the encoder", minimum=1)
    num_decoder_layers: int = option(2, "layers of the decoder", minimum=1)
    norm_first: bool = option(True, "normalise before the branches; the paper does it after them")
    activation: str = option("relu", "inside the feed-forward networks", choices=["relu", "gelu"])
    tied: bool = option(True, "use the target's embedding as the projection to its vocabulary too")
    share_weights: bool = option(False, "use one layer for the whole of each stack")
    recompute: bool = option(
        False, "keep only the input of each layer: less memory, a third more time", may_change=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embed_dim % self.num_heads:
            raise UserError(f"--num-heads {self.num_heads} does not divide --embed-dim {self.embed_dim}")
