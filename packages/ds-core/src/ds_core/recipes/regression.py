"""The recipe `regression`: a network of linear layers that predicts a number."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ds_core.losses.mse import MSELoss
from ds_core.losses.smooth_l1 import SmoothL1Loss
from ds_core.metrics import MeanAbsoluteError, MeanSquaredError, R2Score
from ds_core.options import option
from ds_core.recipes.mlp_model import mlp
from ds_core.recipes.networks import NetworkRun
from ds_core.recipes.options import NetworkOptions
from ds_core.recipes.plots import predicted_against_true
from ds_core.recipes.prepare import rows_of
from ds_core.recipes.recipe import Recipe
from ds_core.recipes.results import table
from ds_core.testing import Report, report
from ds_core.training.evaluation import Metric, predict

DATA_SETS = ("diabetes", "california_housing")
LOSSES = {"mse": MSELoss, "smooth-l1": SmoothL1Loss}


@dataclass
class RegressionOptions(NetworkOptions):
    """Options of `ds train regression`."""

    out: Path = option(Path("runs/regression"), "the run folder: checkpoint, log, results and plots", may_change=True)
    dataset: str = option("diabetes", "what to learn", choices=list(DATA_SETS))
    loss: str = option("mse", "squared error, or one that outliers pull less at", choices=list(LOSSES))
    lr: float = option(3e-3, "learning rate", minimum=0)
    weight_decay: float = option(0.1, "of weight matrices; times the learning rate with adamw", minimum=0)
    patience: int = option(10, "evaluations without a better loss before the run stops; 0: never", minimum=0)


class RegressionRun(NetworkRun[RegressionOptions]):
    """`ds train regression`. The network learns targets of mean 0 and variance 1; errors are said in their own unit."""

    name = "regression"
    task = "regression"
    files = ("predicted.png",)

    def make_criterion(self) -> Any:
        return LOSSES[self.options.loss]()

    def make_metrics(self) -> dict[str, Metric]:
        return {"R2": R2Score()}

    def report_test(self) -> dict[str, Any]:
        scaler = self.data.targets
        assert scaler is not None
        outputs = predict(self.model, (x for x, _ in rows_of(self.data.test)))
        _, targets = self.data.test.tensors
        self.predicted, self.true = (scaler.inverse_transform(part.squeeze(1)) for part in (outputs, targets))
        # The best constant prediction
        mean = scaler.inverse_transform(torch.zeros(len(self.true))).to(self.true)
        lines = []
        for name, guess in (("network", self.predicted), ("mean of the training rows", mean)):
            metrics = (MeanAbsoluteError(), MeanSquaredError(root=True), R2Score())
            for metric in metrics:
                metric.update(guess, self.true)
            lines.append([name, *(metric.compute() for metric in metrics)])
        headings = ["test rows", "mean absolute error", "root mean squared error", "R2"]
        print("\n" + table(headings, lines))
        return {
            "test in the target's unit": {line[0]: dict(zip(headings[1:3], line[1:3], strict=True)) for line in lines}
        }

    def plot(self) -> None:
        super().plot()
        predicted_against_true(self.folder / "predicted.png", self.predicted, self.true, self.data.target)


def check() -> Report:
    """`ds check regression`: every gradient of a small network, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    model = mlp(6, (5, 4), 1, activation="tanh", norm="layer", generator=generator)
    return report(model, torch.randn(7, 6, generator=generator), MSELoss(), torch.randn(7, 1, generator=generator))


recipe = Recipe(
    name="regression",
    summary="a network of linear layers that learns a number: diabetes, California housing, a CSV file of yours",
    options=RegressionOptions,
    train=RegressionRun.train,
    check=check,
)
