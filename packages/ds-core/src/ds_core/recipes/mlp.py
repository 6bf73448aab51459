"""The recipe `mlp`: a network of linear layers that tells classes apart."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ds_core.data.class_weights import class_weights
from ds_core.engine.composition import Sequential
from ds_core.engine.trace import no_record
from ds_core.losses.cross_entropy import CrossEntropyLoss
from ds_core.options import option
from ds_core.recipes.classification import ClassificationRun
from ds_core.recipes.mlp_model import mlp
from ds_core.recipes.networks import NetworkRun
from ds_core.recipes.options import WIDEST, NetworkOptions
from ds_core.recipes.plots import decision_boundary
from ds_core.recipes.recipe import Recipe
from ds_core.testing import Report, report

DATA_SETS = ("digits", "iris", "wine", "breast_cancer", "mnist", "fashion_mnist")


@dataclass
class MLPOptions(NetworkOptions):
    """Options of `ds train mlp`."""

    out: Path = option(Path("runs/mlp"), "the run folder: checkpoint, log, results and plots", may_change=True)
    dataset: str = option("digits", "what to learn", choices=list(DATA_SETS))
    hidden: tuple[int, ...] = option(
        (256, 128), "width of each hidden layer; none: a linear model", minimum=1, maximum=WIDEST
    )
    dropout: float = option(0.3, "share of activations dropped in training", minimum=0, maximum=0.99)
    epochs: int = option(30, "how often every row is seen", minimum=1, may_change=True)
    lr: float = option(3e-3, "learning rate", minimum=0)
    label_smoothing: float = option(0.05, "share of the uniform distribution in each target", minimum=0, maximum=0.9)
    balance: bool = option(False, "weight the classes so that rare ones count as much as frequent ones")


class MLPRun(NetworkRun[MLPOptions], ClassificationRun[MLPOptions, Sequential]):
    """`ds train mlp`."""

    name = "mlp"
    files = ("confusion.png", "boundary.png")

    def make_criterion(self) -> CrossEntropyLoss:
        _, classes = self.data.train.tensors
        weight = class_weights(classes, len(self.classes)) if self.options.balance else None
        return CrossEntropyLoss(weight=weight, label_smoothing=self.options.label_smoothing)

    def plot(self) -> None:
        super().plot()
        x, classes = self.data.test.tensors
        decision_boundary(self.folder / "boundary.png", self._predict, x, classes, self.classes)

    def _predict(self, x: Tensor) -> Tensor:
        with no_record():
            logits: Tensor = self.model.eval()(x)
        return logits.argmax(1)


def check() -> Report:
    """`ds check mlp`: every gradient of a small network, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    model = mlp(6, (5, 4), 3, activation="gelu", norm="batch", dropout=0.2, generator=generator)
    x = torch.randn(7, 6, generator=generator)
    return report(model, x, CrossEntropyLoss(label_smoothing=0.1), torch.randint(3, (7,), generator=generator))


recipe = Recipe(
    name="mlp",
    summary="a network of linear layers that learns classes: digits, iris, MNIST, a CSV file of yours",
    options=MLPOptions,
    train=MLPRun.train,
    check=check,
)
