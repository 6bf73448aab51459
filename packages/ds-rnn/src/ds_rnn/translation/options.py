"""What `ds train translate-rnn` can be told, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core.options import option, preset_option, with_presets
from ds_core.recipes.translation.options import TranslationOptions, ask_for_rate

# Values that differ from the defaults, which are for the shipped sentences; "multi30k" is for 29,000 pairs of captions.
PRESETS: dict[str, dict[str, Any]] = {
    "multi30k": {
        "embed_dim": 256,
        "hidden_size": 512,
        "dropout": 0.3,
        "vocab_size": 10000,
        "max_tokens": 2500,
        "epochs": 20,
        "lr": 1e-3,
        "warmup_steps": 1000,
        "average": 5,
    },
}


@with_presets(PRESETS, ask_for_rate(PRESETS))
@dataclass
class TranslateRNNOptions(TranslationOptions):
    """Options of `ds train translate-rnn`."""

    out: Path = option(
        Path("runs/translate-rnn"), "the run folder: checkpoint, weights, tokenizers, log, plots", may_change=True
    )
    preset: str = preset_option(PRESETS)

    cell: str = option("lstm", "recurrent layers of encoder and decoder", choices=["lstm", "gru"])
    attention: str = option(
        "luong",
        "how the decoder looks at the source: after each step, before it, or not at all",
        choices=["luong", "bahdanau", "none"],
    )
    hidden_size: int = option(256, "numbers of a state, in each direction", minimum=1)
    num_layers: int = option(1, "layers of encoder and decoder", minimum=1, maximum=100)
    tied: bool = option(True, "use the target's embedding as the projection to its vocabulary too")
