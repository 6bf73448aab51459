"""The recipe `perceptron`: a single one, what it learns, and what it cannot."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ds_core.data.loader import Loader
from ds_core.data.tensor_dataset import TensorDataset
from ds_core.engine.composition import Sequential
from ds_core.engine.trace import no_record
from ds_core.layers.linear import Linear
from ds_core.losses.perceptron import PerceptronLoss
from ds_core.optimizers.sgd import SGD
from ds_core.options import option
from ds_core.recipes.plots import decision_boundary
from ds_core.recipes.recipe import Recipe
from ds_core.recipes.results import table
from ds_core.recipes.run import Run
from ds_core.recipes.two_classes import FEATURES, GATES, SPECIES, TwoClasses, gate, iris
from ds_core.testing import Report, report
from ds_core.training.callbacks import Callback
from ds_core.training.run_options import RunOptions
from ds_core.training.same_data import SameData, digest_of
from ds_core.training.trainer import Trainer

WHY_NOT = {
    "xor": (
        "no line has (0, 1) and (1, 0) on one side and (0, 0) and (1, 1) on the other, because the midpoints of both "
        "pairs are one point. A network with a hidden layer draws two lines"
    ),
}


@dataclass
class PerceptronOptions(RunOptions):
    """Options of `ds train perceptron`."""

    out: Path = option(Path("runs/perceptron"), "the run folder: checkpoint, log, results and plots", may_change=True)
    dataset: str = option("iris", "flowers, or a truth table", choices=["iris", *GATES])
    species: str = option("setosa", "the species of iris that is told from the others", choices=list(SPECIES))
    features: str = option("petal", "length and width of which leaves of iris", choices=list(FEATURES))
    epochs: int = option(100, "how often every row is seen at most", minimum=1, may_change=True)
    batch_size: int = option(1, "rows a step: 1 is Rosenblatt's rule, 0 all rows", minimum=0)
    lr: float = option(1.0, "learning rate; from weights of zero it only scales them", minimum=1e-6)
    test: float = option(0.2, "share of iris that is kept for the test", minimum=0.02, maximum=0.8)


def perceptron(inputs: int) -> Sequential:
    """One linear unit that begins at zero: x (N, inputs) -> (N, 1), positive for the second class."""
    layer = Linear(inputs, 1)
    for parameter in layer.parameters():
        parameter.data.zero_()
    return Sequential(layer)


def mistakes(model: Any, part: TensorDataset) -> int:
    """How many rows are on the wrong side, or on the boundary."""
    x, target = part.tensors
    with no_record():
        return int((model(x) * target <= 0).sum())


class UntilRight(Callback):
    """Ends the run after the first epoch whose weights make no mistake."""

    def on_evaluate(self, trainer: Trainer, metrics: Mapping[str, Any]) -> None:
        if metrics["mistakes"] == 0:
            trainer.stop("no mistakes are left")


class PerceptronRun(Run[PerceptronOptions, TwoClasses, Sequential]):
    """`ds train perceptron`."""

    name = "perceptron"
    files = ("mistakes.png", "boundary.png")

    batches: Loader

    def read_data(self) -> TwoClasses:
        options = self.options
        if options.dataset == "iris":
            return iris(options.species, options.features, options.test, options.seed).to(self.device)
        return gate(options.dataset).to(self.device)

    def build_model(self) -> Sequential:
        return perceptron(len(self.data.features))

    def make_batches(self) -> Loader:
        return Loader(self.data.train, self.options.batch_size or None, seed=self.options.seed)

    def count_steps(self) -> int:
        return self.options.epochs * self.batches.steps_per_epoch

    def make_trainer(self) -> Trainer:
        train = self.data.train
        return Trainer(
            self.model,
            PerceptronLoss(),
            SGD(self.model.parameters(), lr=self.options.lr),
            folder=self.folder,
            evaluate=lambda model: {"mistakes": mistakes(model, train)},
            evaluate_every=self.batches.steps_per_epoch,
            callbacks=[SameData(digest_of(*train.tensors), self.options.dataset), UntilRight()],
        )

    def describe(self) -> str:
        return f"a perceptron learns {self.data.aim}: {len(self.data.train)} rows to train on"

    def report(self) -> Mapping[str, Any]:
        data, epochs = self.data, len(self.trainer.history.evaluations)
        weight, bias = (tensor.detach().flatten().tolist() for tensor in self.model.parameters())
        wrong = mistakes(self.model, data.train)
        found: dict[str, Any] = {"epochs": epochs, "mistakes": wrong, "rows": len(data.train)}
        rows: list[list[Any]] = [["training", len(data.train), wrong, 1 - wrong / len(data.train)]]
        if data.test is not None:
            found["test mistakes"] = mistakes(self.model, data.test)
            rows.append(["test", len(data.test), found["test mistakes"], 1 - found["test mistakes"] / len(data.test)])
        print(table(["", "rows", "mistakes", "accuracy"], rows))
        terms = " + ".join(f"{value:.4g} * {name}" for value, name in zip(weight, data.features, strict=True))
        print(f"\n{data.classes[1]} where {terms} + {bias[0]:.4g} > 0")
        if wrong:
            reason = WHY_NOT.get(
                self.options.dataset, "in these features no line was found with one class on each side"
            )
            print(f"after {epochs} epochs {wrong} mistakes are left, and which ones keeps changing: {reason}")
        return {**found, "weight": weight, "bias": bias[0]}

    def plot(self) -> None:
        self.trainer.history.plot(self.folder / "mistakes.png", "mistakes")
        x, target = self.data.train.tensors
        features = self.data.features if len(self.data.features) == 2 else None
        path, classes = self.folder / "boundary.png", (target[:, 0] > 0).long()
        decision_boundary(path, self._predict, x, classes, self.data.classes, features)

    def next_commands(self) -> list[str]:
        other = "and" if self.options.dataset == "xor" else "xor"
        out = shlex.quote(f"{self.folder}-{other}")
        return [f"train perceptron --dataset {other} --out {out}", "train mlp"]

    def _predict(self, x: Tensor) -> Tensor:
        with no_record():
            y: Tensor = self.model(x)
        return (y[:, 0] > 0).long()


def check() -> Report:
    """`ds check perceptron`: its gradients, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    model = Sequential(Linear(3, 1, generator=generator))
    target = torch.tensor([[1.0], [-1.0], [-1.0], [1.0]])
    return report(model, torch.randn(4, 3, generator=generator), PerceptronLoss(), target)


recipe = Recipe(
    name="perceptron",
    summary="a single perceptron: iris, AND and OR, which it learns, and XOR, which it cannot",
    options=PerceptronOptions,
    train=PerceptronRun.train,
    check=check,
)
