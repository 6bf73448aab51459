"""The options of recipes that learn from rows of a table or images, and of those whose network is linear layers."""

from dataclasses import dataclass
from pathlib import Path

from ds_core.activations.by_name import ACTIVATIONS
from ds_core.errors import UserError
from ds_core.options import option
from ds_core.recipes.choices import OPTIMIZERS, SCHEDULES
from ds_core.recipes.mlp_model import NORMS
from ds_core.training.run_options import RunOptions

# Of a layer. If two such layers follow one another, torch says at once that there is no memory
WIDEST = 10**6


@dataclass
class TableOptions(RunOptions):
    """Data and training; a recipe inherits them and adds its network, its data sets and its own defaults."""

    dataset: str = option("", "what to learn")
    csv: Path | None = option(None, "a CSV file of your own, in place of --dataset")
    target: str = option("", "the column to predict, by name (not given: the last one)")
    encoding: str = option("utf-8-sig", "of the CSV file; many older ones are latin-1")
    drop_faulty: bool = option(False, "leave out rows of the CSV file with values missing, or too many")
    folder: Path | None = option(None, "a folder with the files of --dataset, instead of a download", may_change=True)
    validation: float = option(0.1, "share of the rows held out to choose the best weights", minimum=0.01, maximum=0.8)
    test: float = option(
        0.1,
        "share held out for the final test, unless there are test rows",
        minimum=0.01,
        maximum=0.8,
    )

    epochs: int = option(100, "how often every row is seen", minimum=1, may_change=True)
    batch_size: int = option(32, "rows a step: 1 is single-sample descent, 0 all rows, full-batch descent", minimum=0)
    optimizer: str = option("adamw", "how steps are taken", choices=list(OPTIMIZERS))
    lr: float = option(1e-3, "learning rate", minimum=0)
    weight_decay: float = option(0.0, "of weight matrices; times the learning rate with adamw", minimum=0)
    schedule: str = option("cosine", "how the learning rate changes", choices=list(SCHEDULES))
    clip_norm: float = option(0.0, "clip the gradient to this norm; 0: never", minimum=0)
    evaluate_every: int = option(5, "epochs between evaluations", minimum=1)
    patience: int = option(0, "stop after this many evaluations without a better loss; 0: never", minimum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation + self.test >= 0.9:
            raise UserError(
                f"--validation {self.validation} and --test {self.test} leave less than a tenth of the rows"
            )
        if self.target and self.csv is None:
            raise UserError("--target names a column of --csv, which is not given")
        if self.csv is not None and self.folder is not None:
            raise UserError("--csv and --folder contradict each other: which data is it?")


@dataclass
class NetworkOptions(TableOptions):
    """The network of `ds train mlp` and `ds train regression` besides."""

    hidden: tuple[int, ...] = option(
        (64,), "width of each hidden layer; none: a linear model", minimum=1, maximum=WIDEST
    )
    activation: str = option("relu", "between the layers", choices=list(ACTIVATIONS))
    norm: str = option("none", "normalisation before each activation", choices=list(NORMS))
    dropout: float = option(0.0, "share of activations dropped in training", minimum=0, maximum=0.99)
