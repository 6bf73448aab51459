"""The recipe `perceptron`: a single one, what it learns, and what it cannot."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ds_core.data.datasets import load
from ds_core.data.loader import Loader
from ds_core.data.tensor_dataset import TensorDataset
from ds_core.distributed.processes import current
from ds_core.engine.composition import Sequential
from ds_core.engine.trace import no_record
from ds_core.errors import MissingPackageError
from ds_core.layers.linear import Linear
from ds_core.losses.perceptron import PerceptronLoss
from ds_core.optimizers.sgd import SGD
from ds_core.options import option
from ds_core.recipes.options import LARGEST_SEED
from ds_core.recipes.plots import decision_boundary
from ds_core.recipes.recipe import Recipe, command_here
from ds_core.recipes.results import save_results, table
from ds_core.testing import Report, report
from ds_core.training.callbacks import Callback
from ds_core.training.run_folder import RunOptions, open_run_folder, store_options
from ds_core.training.trainer import Trainer

# What each gate answers to (0, 0), (0, 1), (1, 0), (1, 1)
GATES = {"and": (0, 0, 0, 1), "or": (0, 1, 1, 1), "xor": (0, 1, 1, 0)}
SPECIES = ("setosa", "versicolor", "virginica")
FEATURES = {"petal": (2, 3), "sepal": (0, 1), "all": (0, 1, 2, 3)}

WHY_NOT = {
    "xor": (
        "no line has (0, 1) and (1, 0) on one side and (0, 0) and (1, 1) on the other, for the midpoints of both pairs "
        "are one point. A network with a hidden layer draws two lines"
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
    seed: int = option(0, "of the split and of the order of the rows", minimum=0, maximum=LARGEST_SEED)
    plots: bool = option(True, "draw the plots (needs matplotlib)", may_change=True)


@dataclass(frozen=True)
class Task:
    """Rows to tell apart, targets (N, 1) of 1 and -1; `names` of the features and of the two classes."""

    train: TensorDataset
    test: TensorDataset | None
    features: tuple[str, ...]
    classes: tuple[str, str]


def gate(name: str) -> Task:
    """The truth table of a gate."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    target = 2 * torch.tensor(GATES[name], dtype=x.dtype).unsqueeze(1) - 1
    return Task(TensorDataset(x, target), None, ("first input", "second input"), ("0", "1"))


def iris(species: str, features: str, test: float, seed: int) -> Task:
    """One species against the two others."""
    data = load("iris", validation=0.0, test=test, seed=seed)
    columns = torch.tensor(FEATURES[features])
    own = SPECIES.index(species)

    def chosen(part: TensorDataset) -> TensorDataset:
        x, classes = part.tensors
        return TensorDataset(x.index_select(1, columns), 2 * (classes == own).to(x.dtype).unsqueeze(1) - 1)

    names = tuple(data.feature_names[int(column)] for column in columns)
    return Task(chosen(data.train), chosen(data.test), names, ("others", species))


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


def train(options: PerceptronOptions) -> None:
    """`ds train perceptron`."""
    if options.dataset == "iris":
        task = iris(options.species, options.features, options.test, options.seed)
    else:
        task = gate(options.dataset)
    folder = open_run_folder("perceptron", options)
    model = perceptron(len(task.features))
    loader = Loader(task.train, options.batch_size or None, seed=options.seed)
    trainer = Trainer(
        model,
        PerceptronLoss(),
        SGD(model.parameters(), lr=options.lr),
        folder=folder,
        evaluate=lambda model: {"mistakes": mistakes(model, task.train)},
        evaluate_every=loader.steps_per_epoch,
        callbacks=[UntilRight()],
    )
    if options.resume:
        trainer.resume()
        store_options("perceptron", options)
    trainer.fit(loader, options.epochs * loader.steps_per_epoch)
    if current().first:
        _report(options, trainer, task, folder)


def _report(options: PerceptronOptions, trainer: Trainer, task: Task, folder: Path) -> None:
    model = trainer.model
    weight, bias = (tensor.detach().flatten().tolist() for tensor in model.parameters())
    wrong = mistakes(model, task.train)
    results: dict[str, Any] = {"epochs": len(trainer.history.evaluations), "mistakes": wrong, "rows": len(task.train)}
    rows: list[list[Any]] = [["training", len(task.train), wrong, 1 - wrong / len(task.train)]]
    if task.test is not None:
        results["test mistakes"] = mistakes(model, task.test)
        rows.append(["test", len(task.test), results["test mistakes"], 1 - results["test mistakes"] / len(task.test)])
    print(table(["", "rows", "mistakes", "accuracy"], rows))
    terms = " + ".join(f"{value:.4g} * {name}" for value, name in zip(weight, task.features, strict=True))
    print(f"\n{task.classes[1]} where {terms} + {bias[0]:.4g} > 0")
    if wrong:
        reason = WHY_NOT.get(options.dataset, "in these features no line was found that has each class on one side")
        print(f"after {results['epochs']} epochs {wrong} mistakes are left, and which ones goes on changing: {reason}")
    save_results(folder, {**results, "weight": weight, "bias": bias[0]})
    if options.plots:
        try:
            trainer.history.plot(folder / "mistakes.png", "mistakes")
            x, target = task.train.tensors
            decision_boundary(
                folder / "boundary.png",
                lambda places: _classes(model, places),
                x,
                (target[:, 0] > 0).long(),
                task.classes,
                task.features if len(task.features) == 2 else None,
            )
        except MissingPackageError as error:
            print(f"no plots: {error}")
    print("\n" + "\n".join(f"  {path}" for path in sorted(folder.iterdir())))
    ds = command_here()
    other = "and" if options.dataset == "xor" else "xor"
    out = shlex.quote(str(folder.with_name(f"{folder.name}-{other}")))
    print(f"\ntry next:\n  {ds} train perceptron --dataset {other} --out {out}\n  {ds} train mlp", flush=True)


def _classes(model: Any, x: Tensor) -> Tensor:
    with no_record():
        y: Tensor = model(x)
    return (y[:, 0] > 0).long()


def check() -> Report:
    """`ds check perceptron`: its gradients, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    model = Sequential(Linear(3, 1))
    target = torch.tensor([[1.0], [-1.0], [-1.0], [1.0]])
    return report(model, torch.randn(4, 3, generator=generator), PerceptronLoss(), target)


recipe = Recipe(
    name="perceptron",
    summary="a single perceptron: iris, AND and OR, which it learns, and XOR, which it cannot",
    options=PerceptronOptions,
    train=train,
    check=check,
)
