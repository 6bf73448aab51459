"""The recipe `rnn-digits`: a recurrent network that reads an image row by row and says what it shows."""

from dataclasses import dataclass
from pathlib import Path

import torch
from ds_core import CrossEntropyLoss, Sequential, UserError
from ds_core.options import option
from ds_core.recipes import Recipe
from ds_core.recipes.classification import ClassificationRun
from ds_core.recipes.options import TableOptions
from ds_core.testing import Report, report

from ds_rnn.recurrent.by_name import LAYERS
from ds_rnn.recurrent.lstm import LSTM
from ds_rnn.sequences.rows_of_images import RowsOfImages
from ds_rnn.sequences.sequence_models import SequenceClassifier

DATA_SETS = ("digits", "mnist", "fashion_mnist")


@dataclass
class RNNDigitsOptions(TableOptions):
    """Options of `ds train rnn-digits`."""

    out: Path = option(Path("runs/rnn-digits"), "the run folder: checkpoint, log, results and plots", may_change=True)
    dataset: str = option("digits", "what to learn", choices=list(DATA_SETS))
    pixels: bool = option(False, "read pixel by pixel instead of row by row: a far longer sequence")

    cell: str = option("lstm", "recurrent layers", choices=list(LAYERS))
    num_layers: int = option(1, "layers", minimum=1, maximum=1000)
    hidden_size: int = option(64, "numbers of a state", minimum=1, maximum=10**5)
    bidirectional: bool = option(True, "read from the last row to the first, too")
    dropout: float = option(0.2, "share of activations dropped in training", minimum=0, maximum=0.99)

    epochs: int = option(60, "how often every image is seen", minimum=1, may_change=True)
    lr: float = option(5e-3, "learning rate", minimum=0)
    weight_decay: float = option(0.01, "of weight matrices; times the learning rate with adamw", minimum=0)
    clip_norm: float = option(1.0, "clip the gradient to this norm; 0: never", minimum=0)
    label_smoothing: float = option(0.05, "share of the uniform distribution in each target", minimum=0, maximum=0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.csv is not None:
            raise UserError("--csv: a table has no rows of pixels to read one after the other; take --dataset")


class RNNDigitsRun(ClassificationRun[RNNDigitsOptions, Sequential]):
    """`ds train rnn-digits`."""

    name = "rnn-digits"

    def build_model(self) -> Sequential:
        options = self.options
        channels, _, width = self.data.train.tensors[0].shape[1:]
        layers = LAYERS[options.cell](
            input_size=channels if options.pixels else channels * width,
            hidden_size=options.hidden_size,
            num_layers=options.num_layers,
            batch_first=True,
            dropout=options.dropout,
            bidirectional=options.bidirectional,
        )
        classifier = SequenceClassifier(layers, len(self.classes), dropout=options.dropout)
        return Sequential(RowsOfImages(options.pixels), classifier)

    def make_criterion(self) -> CrossEntropyLoss:
        return CrossEntropyLoss(label_smoothing=self.options.label_smoothing)

    def describe(self) -> str:
        options, data = self.options, self.data
        _, height, width = data.train.tensors[0].shape[1:]
        steps = f"{height * width} pixels" if options.pixels else f"{height} rows"
        return (
            f"{options.num_layers} layer(s) of {options.cell}, {self.parameters_in_words}, read {data.source} "
            f"in {steps}: {len(data.train):,} images to train on, {len(data.validation):,} to validate on, "
            f"{len(data.test):,} to test on; {self.batches.steps_per_epoch} steps an epoch"
        )


def check() -> Report:
    """`ds check rnn-digits`: every gradient of a small network, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    layers = LSTM(3, 4, 2, batch_first=True, bidirectional=True, generator=generator)
    model = Sequential(RowsOfImages(), SequenceClassifier(layers, 3, dropout=0.2, generator=generator))
    x = torch.randn(2, 1, 4, 3, generator=generator)
    return report(model, x, CrossEntropyLoss(label_smoothing=0.1), torch.tensor([2, 0]))


recipe = Recipe(
    name="rnn-digits",
    summary="a recurrent network that reads images row by row: digits, MNIST, Fashion-MNIST",
    options=RNNDigitsOptions,
    train=RNNDigitsRun.train,
    check=check,
)
