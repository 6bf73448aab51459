"""What the recipes `dcgan` and `wgan` can be told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core import UserError
from ds_core.options import option
from ds_core.recipes.choices import SCHEDULES
from ds_core.training.run_options import LARGEST_SEED, MOST_THREADS, RunOptions

from ds_cnn.recipes.image_options import DATA_SETS
from ds_cnn.recipes.messages import check_picture

JUDGE_EPOCHS = 30


@dataclass
class GANOptions(RunOptions):
    """Data, networks and training; a recipe inherits them and adds its own defaults."""

    dataset: str = option("digits", "what to draw", choices=list(DATA_SETS))
    folder: Path | None = option(None, "a folder with the files of --dataset, instead of a download", may_change=True)

    latent_size: int = option(16, "numbers of the noise that an image is made of", minimum=1, maximum=10**5)
    width: int = option(64, "channels next to the image; each layer further inside has twice as many", minimum=1)

    rounds: int = option(4000, "steps of the generator", minimum=1, may_change=True)
    batch_size: int = option(64, "images of a step: so many real ones, and so many generated", minimum=2)
    lr_discriminator: float = option(4e-4, "Adam's learning rate for the discriminator", minimum=0)
    lr_generator: float = option(4e-4, "Adam's learning rate for the generator", minimum=0)
    beta1: float = option(0.5, "Adam's average of gradients", minimum=0, maximum=0.999999)
    beta2: float = option(0.999, "Adam's average of their squares", minimum=0, maximum=0.999999)
    schedule: str = option("cosine", "how the learning rates change", choices=list(SCHEDULES))
    evaluate_every: int = option(500, "rounds between checkpoints, each with a picture of samples", minimum=1)

    judge: Path | None = option(
        None, "the run folder of ds train cnn that judges samples (not given: a small network is trained for it)"
    )
    judge_epochs: int | None = option(
        None,
        f"epochs of the small network's training (not given: {JUDGE_EPOCHS})",
        minimum=1,
        maximum=10**6,
    )
    judged: int = option(1000, "how many samples are judged", minimum=1, maximum=10**6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.judge is None:
            self.judge_epochs = JUDGE_EPOCHS if self.judge_epochs is None else self.judge_epochs
        elif self.judge_epochs is not None:
            raise UserError(
                f"--judge {self.judge} and --judge-epochs {self.judge_epochs} contradict each other: the network of a "
                "run folder is not trained again"
            )


@dataclass
class GenerateOptions:
    """Options of `ds generate FOLDER` for a run that draws images."""

    count: int = option(64, "how many images to draw", minimum=1, maximum=10**6)
    out: Path = option(Path("samples.png"), "the PNG file, all images side by side")
    columns: int = option(8, "images in a row", minimum=1)
    scale: int = option(4, "pixels for each pixel of an image", minimum=1, maximum=100)
    seed: int | None = option(None, "of the noise (not given: other images each time)", minimum=0, maximum=LARGEST_SEED)
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto is cuda if there is one")
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1, maximum=MOST_THREADS)

    def __post_init__(self) -> None:
        check_picture("--out", self.out)


def with_data_set(changes: Mapping[str, Mapping[str, Any]]) -> Callable[[dict[str, Any], set[str]], None]:
    """For `with_presets`: the data set says what is not given."""

    def follow(values: dict[str, Any], given: set[str]) -> None:
        found = dict(changes.get(values["dataset"], {}))
        if values["judge"] is not None:
            found.pop("judge_epochs", None)
        values.update({name: value for name, value in found.items() if name not in given})

    return follow
