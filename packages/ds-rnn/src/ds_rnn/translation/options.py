"""What `ds train translate-rnn` can be told, and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core import UserError
from ds_core.options import option, preset_option, with_presets
from ds_core.recipes.translation.options import TranslationOptions, ask_for_rate

from ds_rnn.seq2seq.teacher_forcing import SCHEDULES

# Values that differ from the defaults, which are for the shipped sentences; "multi30k" is for 29,000 pairs of captions.
PRESETS: dict[str, dict[str, Any]] = {
    "multi30k": {
        "attention": "luong",
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
        "bahdanau",
        "how the decoder looks at the source: before each step, after it, or not at all",
        choices=["bahdanau", "luong", "none"],
    )
    embed_dim: int = option(256, "length of a token's vector", minimum=1)
    hidden_size: int = option(192, "numbers of a state, in each direction", minimum=1)
    num_layers: int = option(1, "layers of encoder and decoder", minimum=1, maximum=100)
    tied: bool = option(True, "use the target's embedding as the projection to its vocabulary too")
    dropout: float = option(0.1, "share of activations dropped in training", minimum=0, maximum=0.99)

    epochs: int = option(11, "how often every pair is seen", minimum=1, may_change=True)
    max_tokens: int = option(600, "tokens of a batch on either side, padding included", minimum=8)
    teacher_forcing: float = option(
        1.0,
        "share of true tokens that the decoder is given at the end of training; the others are its own predictions",
        minimum=0,
        maximum=1,
    )
    forcing_schedule: str = option("linear", "how that share falls from 1", choices=list(SCHEDULES))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.forcing_schedule != "linear" and not 0 < self.teacher_forcing < 1:
            raise UserError(
                f"--forcing-schedule {self.forcing_schedule} needs --teacher-forcing between 0 and 1, given "
                f"{self.teacher_forcing:g}: only the linear one falls to 0, and at 1 the share does not fall"
            )
