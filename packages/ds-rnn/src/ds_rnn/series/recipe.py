"""The recipe `rnn-series`: a recurrent network that learns a series of numbers and says how it goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from ds_core import MSELoss, Sequential, UserError, predict
from ds_core.data import Standardise, TensorDataset
from ds_core.data.tables import Task, read_column
from ds_core.metrics import MeanAbsoluteError, MeanSquaredError
from ds_core.options import option
from ds_core.plotting import new_figure, plain_text, save_figure
from ds_core.recipes import Recipe
from ds_core.recipes.options import TableOptions
from ds_core.recipes.prepare import Prepared, rows_of
from ds_core.recipes.results import table
from ds_core.recipes.tables import TableRun
from ds_core.testing import Report, report
from ds_core.training.evaluation import Metric
from ds_core.training.same_data import digest_of
from torch import Tensor

from ds_rnn.recurrent.by_name import LAYERS
from ds_rnn.recurrent.lstm import LSTM
from ds_rnn.sequences.sequence_models import SequenceClassifier
from ds_rnn.series.series_windows import generated_series, series_windows

_GENERATED = 4000
_SHOWN = 400  # numbers of the test part in the plot


@dataclass
class RNNSeriesOptions(TableOptions):
    """Options of `ds train rnn-series`."""

    out: Path = option(Path("runs/rnn-series"), "the run folder: checkpoint, log, results and plots", may_change=True)
    dataset: str = option("generated", "what to learn, unless --csv is given", choices=["generated"])
    validation: float = option(
        0.15, "share of the series held out to choose the best weights", minimum=0.01, maximum=0.8
    )
    test: float = option(0.15, "share at the end held out for the final test", minimum=0.01, maximum=0.8)
    window: int = option(72, "numbers that are known", minimum=1)
    horizon: int = option(12, "numbers to say in advance", minimum=1)

    cell: str = option("lstm", "recurrent layers", choices=list(LAYERS))
    num_layers: int = option(1, "layers", minimum=1, maximum=1000)
    hidden_size: int = option(48, "numbers of a state", minimum=1, maximum=10**5)
    dropout: float = option(0.0, "share of activations dropped in training", minimum=0, maximum=0.99)

    epochs: int = option(12, "how often every window is seen", minimum=1, may_change=True)
    batch_size: int = option(64, "windows a step", minimum=1)
    lr: float = option(5e-3, "learning rate", minimum=0)
    clip_norm: float = option(1.0, "clip the gradient to this norm; 0: never", minimum=0)
    evaluate_every: int = option(1, "epochs between evaluations", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folder is not None:
            raise UserError("--folder: nothing is downloaded here, so there is nothing to find in a folder")
        if self.drop_faulty:
            raise UserError("--drop-faulty: without a row the numbers after it would stand at another time")


class RNNSeriesRun(TableRun[RNNSeriesOptions, Sequential]):
    """`ds train rnn-series`. The network learns numbers of mean 0 and variance 1; errors are said in their own unit."""

    name = "rnn-series"
    task: ClassVar[Task] = "regression"
    files = ("forecast.png",)

    def read_data(self) -> Prepared:
        """The parts are in the order of time, so that the network is asked about what comes after all it has seen."""
        options = self.options
        series, name, source = self._series()
        ends = [round(len(series) * share) for share in (1 - options.validation - options.test, 1 - options.test)]
        parts = [series[: ends[0]], series[ends[0] : ends[1]], series[ends[1] :]]
        least = options.window + options.horizon
        if min(map(len, parts)) < least:
            raise UserError(
                f"{source}: its parts have {', '.join(str(len(part)) for part in parts)} numbers, expected at least "
                f"{least} in each, a --window of {options.window} and a --horizon of {options.horizon}"
            )
        scaler = Standardise().fit(parts[0][:, None])
        sets = []
        for part in parts:
            scaled = scaler.transform(part[:, None])[:, 0].to(torch.get_default_dtype())
            sets.append(
                TensorDataset(*(x.to(self.device) for x in series_windows(scaled, options.window, options.horizon)))
            )
        train, validation, test = sets
        return Prepared(source, name, train, validation, test, options.window, None, scaler, digest_of(*train.tensors))

    def build_model(self) -> Sequential:
        options = self.options
        layers = LAYERS[options.cell](
            input_size=1,
            hidden_size=options.hidden_size,
            num_layers=options.num_layers,
            batch_first=True,
            dropout=options.dropout,
        )
        return Sequential(SequenceClassifier(layers, options.horizon, dropout=options.dropout))

    def make_criterion(self) -> MSELoss:
        return MSELoss()

    def make_metrics(self) -> dict[str, Metric]:
        return {"absolute error": MeanAbsoluteError()}

    def describe(self) -> str:
        options, data = self.options, self.data
        return (
            f"{options.num_layers} layer(s) of {options.cell}, {self.parameters_in_words}, learn "
            f"{data.source}: from {options.window} numbers the {options.horizon} that follow; {len(data.train):,} "
            f"windows to train on, {len(data.validation):,} to validate on, {len(data.test):,} to test on; "
            f"{self.batches.steps_per_epoch} steps an epoch"
        )

    def report_test(self) -> Mapping[str, Any]:
        """Errors in the series' own unit, beside two guesses that need no network."""
        windows, true = self.data.test.tensors
        horizon = true.shape[1]
        guesses = {"the last number": windows[:, -1].expand(-1, horizon)}
        if windows.shape[1] >= horizon:
            guesses[f"the last {horizon} again"] = windows[:, -horizon:, 0]
        outputs: Tensor = predict(self.model, (x for x, _ in rows_of(self.data.test)))
        self.predicted, self.true = self._in_own_unit(outputs.to(true)), self._in_own_unit(true)
        lines: list[list[Any]] = []
        for name, guess in {"network": outputs.to(true), **guesses}.items():
            metrics = (MeanAbsoluteError(), MeanSquaredError(root=True))
            for metric in metrics:
                metric.update(self._in_own_unit(guess).flatten(), self.true.flatten())
            lines.append([name, *(metric.compute() for metric in metrics)])
        headings = ["test windows", "mean absolute error", "root mean squared error"]
        print("\n" + table(headings, lines))
        return {"test in its own unit": {line[0]: dict(zip(headings[1:], line[1:], strict=True)) for line in lines}}

    def plot(self) -> None:
        super().plot()
        horizon = self.true.shape[1]
        figure = new_figure(9, 4)
        axes = figure.add_subplot()
        shown = range(0, min(_SHOWN, len(self.true)), horizon)  # forecasts side by side, none over another
        axes.plot(torch.cat([self.true[n] for n in shown]).tolist(), label=plain_text(self.data.target), linewidth=1)
        for n in shown:
            label = "forecast" if n == 0 else None
            axes.plot(range(n, n + horizon), self.predicted[n].tolist(), color="tab:orange", label=label, linewidth=1)
        axes.set(xlabel="steps of the test part", ylabel=plain_text(self.data.target))
        axes.legend()
        save_figure(figure, self.folder / "forecast.png")

    def _series(self) -> tuple[Tensor, str, str]:
        """The numbers, what they are called, and where they are from."""
        options = self.options
        if options.csv is None:
            generator = torch.Generator().manual_seed(options.seed)
            return generated_series(_GENERATED, generator), "generated", f"{_GENERATED:,} generated numbers"
        values, name = read_column(options.csv, options.target or -1, encoding=options.encoding, dtype=torch.float64)
        return values, name, f"{name} of {options.csv}"

    def _in_own_unit(self, scaled: Tensor) -> Tensor:
        assert self.data.targets is not None
        return self.data.targets.inverse_transform(scaled.reshape(-1, 1)).reshape(scaled.shape)


def check() -> Report:
    """`ds check rnn-series`: every gradient of a small network, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    model = SequenceClassifier(LSTM(1, 4, 2, batch_first=True, generator=generator), 3, generator=generator)
    return report(model, torch.randn(2, 5, 1, generator=generator), MSELoss(), torch.randn(2, 3, generator=generator))


recipe = Recipe(
    name="rnn-series",
    summary="a recurrent network that forecasts a series: generated, or a column of a CSV file of yours",
    options=RNNSeriesOptions,
    train=RNNSeriesRun.train,
    check=check,
)
