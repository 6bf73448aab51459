"""What `ds train miniclip` and `ds predict` can be told, and the presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core import UserError
from ds_core.distributed.processes import started_by_torchrun
from ds_core.options import option, preset_option, with_presets
from ds_core.training.run_options import MOST_THREADS, PrecisionOptions, RunOptions

from ds_zoo.finetuning.options import LR_HELP, FineTuningOptions, follow_pretrained
from ds_zoo.miniclip.caption_tokenizer import VOCABULARIES

LEAST_BPE = 258  # what `BPETokenizer` needs, and two
# What each preset changes. The defaults are for drawn scenes, "photos" for images of your own.
PRESETS: dict[str, dict[str, Any]] = {
    "demo": {"steps": 300, "evaluate_every": 100},
    "photos": {
        **{"image_size": 96, "patch_size": 8, "vision_layers": 6, "vision_dim": 192, "vision_heads": 6},
        **{"text_layers": 4, "text_dim": 128, "projection_dim": 128, "vocabulary": "bpe"},
        **{"batch_size": 128, "lr": 1e-3, "min_lr": 1e-5, "weight_decay": 0.1, "warmup_steps": 500},
    },
}


def _follow(values: dict[str, Any], given: set[str]) -> None:
    """A given `lr` scales `min_lr` by the same factor; a given `steps` limits the warm-up to a tenth of them."""
    given = follow_pretrained(MiniCLIPOptions, values, given)
    if "lr" in given and "min_lr" not in given:
        values["min_lr"] *= values["lr"] / PRESETS.get(values["preset"], {}).get("lr", MiniCLIPOptions.lr)
    if "steps" in given and "warmup_steps" not in given:
        values["warmup_steps"] = min(values["warmup_steps"], values["steps"] // 10)


@with_presets(PRESETS, _follow)
@dataclass
class MiniCLIPOptions(PrecisionOptions, FineTuningOptions, RunOptions):
    """Options of `ds train miniclip`."""

    decided = (
        *("image_size", "patch_size", "vision_layers", "vision_dim", "vision_heads", "text_layers", "text_dim"),
        *("text_heads", "projection_dim", "attention_dropout", "vocabulary", "vocab_size", "max_length"),
    )

    out: Path = option(
        Path("runs/miniclip"), "the run folder: checkpoint, model, tokenizer, log and plots", may_change=True
    )
    preset: str = preset_option(PRESETS)

    images_captions: Path | None = option(
        None,
        "learn your images: a CSV file or JSON lines with the columns image and text, or a folder with metadata.csv "
        "in it (not given: drawn scenes of digits)",
        may_change=True,
    )
    validation: float = option(0.1, "share of your images held out", minimum=0.01, maximum=0.8)
    scene_size: int = option(32, "height and width of a drawn scene", minimum=24)
    digits: int = option(2, "the most digits in a drawn scene", minimum=1, maximum=4)
    jitter: int = option(
        0, "pixels by which a drawn digit may be off the middle of its cell; -1: digits stand anywhere", minimum=-1
    )
    single: float = option(0.7, "share of drawn scenes with one digit", minimum=0, maximum=1)
    short_captions: float = option(
        0.5, "share of captions of drawn scenes that leave words out, such as 'a three'", minimum=0, maximum=1
    )
    vocabulary: str = option("words", "tokens: words, or frequent parts of words", choices=list(VOCABULARIES))
    vocab_size: int = option(8192, "how many tokens at most", minimum=4)
    max_length: int | None = option(
        None, "the most tokens of a caption, begin and end included (not given: the longest caption's)", minimum=3
    )

    image_size: int = option(
        32, "what images are resized to; this and the rest of the model: not with --from-pretrained", minimum=1
    )
    patch_size: int = option(16, "pixels of each side of a patch", minimum=1)
    vision_layers: int = option(3, "blocks for images", minimum=1)
    vision_dim: int = option(128, "length of a patch's vector", minimum=1)
    vision_heads: int = option(4, "attention heads in a block for images", minimum=1)
    text_layers: int = option(2, "blocks for texts", minimum=1)
    text_dim: int = option(64, "length of a token's vector", minimum=1)
    text_heads: int = option(4, "attention heads in a block for texts", minimum=1)
    projection_dim: int = option(64, "length of the embeddings that are compared", minimum=1)
    attention_dropout: float = option(0.0, "share of attention's probabilities dropped", minimum=0, maximum=0.99)

    steps: int = option(5000, "optimizer steps", minimum=1, may_change=True)
    batch_size: int = option(64, "pairs in a batch: each caption is told from so many images", minimum=2)
    accumulate: int = option(1, "batches per step; each is contrasted by itself", minimum=1)
    lr: float = option(2e-3, LR_HELP, minimum=0)
    min_lr: float = option(2e-5, "learning rate at the end of the cosine", minimum=0)
    warmup_steps: int = option(100, "steps of warm-up; if only --steps is given, at most a tenth of them", minimum=0)
    beta1: float = option(0.9, "AdamW's average of gradients", minimum=0, maximum=0.999999)
    beta2: float = option(0.98, "AdamW's average of their squares", minimum=0, maximum=0.999999)
    weight_decay: float = option(0.05, "AdamW's, on matrices only", minimum=0)
    clip_norm: float = option(1.0, "clip the gradient to this norm; 0: never", minimum=0)

    evaluate_every: int = option(500, "steps between evaluations", minimum=1)
    evaluate_pairs: int = option(256, "pairs of an evaluation", minimum=2)
    checkpoint_every: int | None = option(
        None, "steps between checkpoints (not given: at each evaluation)", minimum=1, may_change=True
    )

    def __post_init__(self) -> None:
        RunOptions.__post_init__(self)
        FineTuningOptions.__post_init__(self)
        for tower in ("vision", "text"):
            heads, dim = getattr(self, f"{tower}_heads"), getattr(self, f"{tower}_dim")
            if dim % heads:
                raise UserError(f"--{tower}-heads {heads} does not divide --{tower}-dim {dim}")
        if self.vocabulary == "bpe" and self.vocab_size < LEAST_BPE:
            raise UserError(
                f"--vocab-size: given {self.vocab_size}, expected at least {LEAST_BPE} with --vocabulary bpe: the 256 "
                "bytes, begin and end"
            )
        if self.patch_size > self.image_size:
            raise UserError(f"--patch-size {self.patch_size} is larger than --image-size {self.image_size}")
        if self.min_lr > self.lr:
            raise UserError(f"--min-lr {self.min_lr} is above --lr {self.lr}")
        if self.warmup_steps > self.steps and not self.resume:
            raise UserError(f"--warmup-steps {self.warmup_steps} are more than --steps {self.steps}")
        if self.compile == "step" and started_by_torchrun():
            raise UserError(
                "--compile step cannot be used with several processes here: they exchange embeddings in the middle of "
                "the step, which is no graph; --compile pairs can"
            )


@dataclass
class RankOptions:
    """Options of `ds predict FOLDER` for a run of miniclip."""

    image: tuple[Path, ...] = option((), "image files")
    text: tuple[str, ...] = option((), 'texts to choose among, such as "a three" "a large red seven"')
    weights: str = option("best", "of the best evaluation, or of the last checkpoint", choices=["best", "last"])
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto is cuda if there is one")
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1, maximum=MOST_THREADS)

    def __post_init__(self) -> None:
        if not self.image:
            raise UserError("predict of which image? give --image FILE, or several of them")
        if not self.text:
            raise UserError('rank which texts? give --text "a three" "a large red seven"')
        for number, text in enumerate(self.text):
            if not text.strip():
                raise UserError(f"--text: text {number + 1} of {len(self.text)} is empty: expected at least a word")
