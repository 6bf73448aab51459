"""The order of a run, once for every recipe. How to write a recipe: docs/recipes.md."""

import random
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch

from ds_core.data.batches import Batches
from ds_core.distributed.processes import current
from ds_core.engine.module import Module
from ds_core.errors import MissingPackageError, UserError
from ds_core.recipes.recipe import command_here
from ds_core.recipes.results import RESULTS_FILE, save_results
from ds_core.speed.compiled import compile_pairs
from ds_core.training.checkpoint import describe_checkpoint, load_weights
from ds_core.training.devices import choose_device
from ds_core.training.folder_lock import LOCK_FILE
from ds_core.training.keep_checkpoints import BEST_FILE, EARLIER_BEST_FILE
from ds_core.training.process_settings import busy_note
from ds_core.training.run_folder import (
    CHECKPOINT_FILE,
    folder_of_a_run,
    open_run_folder,
    read_run_folder,
    remove_files,
    store_options,
)
from ds_core.training.run_options import DTYPES, PrecisionOptions, RunOptions
from ds_core.training.trainer import Trainer

OptionsT = TypeVar("OptionsT", bound=RunOptions)
DataT = TypeVar("DataT")
ModelT = TypeVar("ModelT", bound=Module)

CURVE_FILE = "loss.png"


def seed_everything(seed: int) -> None:
    """Seed the shared generators of PyTorch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # it takes no larger one
    random.seed(seed)


class Run(ABC, Generic[OptionsT, DataT, ModelT]):
    """A recipe's run, from its options to a trained model in a folder.

    A recipe inherits from it, with the types of its options, data and model, and writes seven methods:

        class LineRun(Run[LineOptions, TensorDataset, Linear]):
            name = "line"

            def read_data(self) -> TensorDataset: ...
            def build_model(self) -> Linear: ...
            def make_batches(self) -> Loader: ...
            def count_steps(self) -> int: ...
            def make_trainer(self) -> Trainer: ...
            def describe(self) -> str: ...
            def report(self) -> dict[str, float]: ...

        recipe = Recipe("line", "learns a line", LineOptions, LineRun.train)

    The others have a default. The class declares all of them in the order in which they are called, and each finds what
    the ones before it have made. If several processes train together (torchrun), each of them calls the methods up to
    `make_trainer`; those after it write and print, and only the first process calls them.

    Attributes:
        name: of the recipe (a class attribute, as `files`).
        files: names of the files that the recipe writes into the folder beside those of every run (checkpoint, log,
            options, best weights, `results.json`, `loss.png`). A run that is overwritten loses them.
        options: as given on the command line.
        folder: the run folder. Write nothing into it before `write_folder`: until then it may hold another run.
        device, dtype: where and in what the model computes; the dtype is None unless the options are
            `PrecisionOptions`.
        data, model, batches, steps, trainer: what the methods have made.
        resumed: whether the run continues from a checkpoint.
    """

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = ()

    data: DataT
    model: ModelT
    batches: Batches
    steps: int
    trainer: Trainer

    def __init__(self, options: OptionsT) -> None:
        self.options = options
        self.folder = options.out
        self.device = torch.device("cpu")
        self.dtype: torch.dtype | None = None
        self.resumed = False

    @classmethod
    def train(cls, options: OptionsT) -> None:
        """`ds train NAME`: what a `Recipe` is given."""
        cls(options).run()

    def run(self) -> None:
        """Train, or continue, and report."""
        self.prepare()
        with folder_of_a_run(self.options):
            # Keep everything that can fail above this line: with --overwrite the next call deletes the old run.
            self._open_folder()
            if current().first:
                self._begin()
            self.trainer.fit(self.batches, self.steps)
            if current().first:
                self._finish()

    def prepare(self) -> None:
        """Choose the device, read the data, build model and trainer. Nothing is written yet."""
        options = self.options
        self.device = choose_device(options.device)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        precise = options if isinstance(options, PrecisionOptions) else None
        self.dtype = None if precise is None else DTYPES[precise.dtype]
        compile_pairs(precise is not None and precise.compile == "pairs")
        seed_everything(options.seed)
        self.data = self.read_data()
        seed_everything(options.seed)  # the model's weights do not depend on what was drawn for the data
        self.model = self.build_model().to(device=self.device, dtype=self.dtype)
        self.batches = self.make_batches()
        self.steps = self.count_steps()
        self.trainer = self.make_trainer()

    @abstractmethod
    def read_data(self) -> DataT:
        """What is learned from. Raise `UserError` if it cannot be read or is not enough."""

    @abstractmethod
    def build_model(self) -> ModelT:
        """The model, with its initial weights drawn from the default generator, which has the options' seed."""

    @abstractmethod
    def make_batches(self) -> Batches:
        """What to train on, `batch(index)`: the same for the same seed and index, whatever was drawn before."""

    @abstractmethod
    def count_steps(self) -> int:
        """Optimizer steps of the whole run."""

    def length(self) -> str:
        """`count_steps` as a message says it; a recipe of rounds or epochs names its option."""
        return f"{self.steps} steps"

    @abstractmethod
    def make_trainer(self) -> Trainer:
        """Loss, optimizer, schedule, evaluation and callbacks, in `Trainer(..., folder=self.folder)`.

        A `SameData` among the callbacks refuses to resume with other data, a `KeepBest` keeps the best weights.
        """

    def write_folder(self) -> None:
        """Write what is needed to use the model beside its weights, such as a tokenizer."""

    @abstractmethod
    def describe(self) -> str:
        """What is trained on what, in one sentence; device, dtype and threads are added to it."""

    def before_training(self) -> None:
        """Show something of the untrained model. A resumed run does not call it."""

    def final_weights(self) -> str:
        """Load the weights of the results into the model; returns which they are, such as "step 250".

        By default those of the best evaluation, if the trainer has a `KeepBest`, otherwise the last ones.
        """
        best = self.folder / BEST_FILE
        return f"step {load_weights(best, self.model) if best.exists() else self.trainer.step}"

    @abstractmethod
    def report(self) -> Mapping[str, Any]:
        """Measure the trained model and print what it can; returns numbers by name for `results.json`."""

    def plot(self) -> None:
        """Draw into the folder, with matplotlib. By default the loss, training and evaluation."""
        self.trainer.history.plot(self.folder / CURVE_FILE)

    def next_commands(self) -> Sequence[str]:
        """What may be typed next, without the `ds` at the beginning; `self.typed_folder` is the folder as typed."""
        return [f"info {self.typed_folder}"]

    @property
    def typed_folder(self) -> str:
        """The run folder as it is typed in a shell."""
        return shlex.quote(str(self.folder))

    @property
    def parameter_count(self) -> int:
        """How many numbers the model holds that can be learned."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def parameters_in_words(self) -> str:
        """How many parameters the model has, and how many of them are trained if some are frozen."""
        trained = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        share = "" if trained == self.parameter_count else f" of which {trained:,} are trained"
        return f"{self.parameter_count:,} parameters{share}"

    def _open_folder(self) -> None:
        files = (BEST_FILE, EARLIER_BEST_FILE, RESULTS_FILE, CURVE_FILE, *self.files)
        open_run_folder(self.name, self.options, files)
        if not self.options.resume:
            return
        # A resume that is refused leaves the folder as it is: nothing is written before the checkpoint is loaded
        current().on_first(self._refuse_shorter)
        self.resumed = self.trainer.resume()
        if not self.resumed:  # killed before its first checkpoint, maybe while it was overwriting another run
            current().on_first(lambda: remove_files(self.folder, read_run_folder(self.folder)))
        store_options(self.name, self.options, files)

    def _refuse_shorter(self) -> None:
        checkpoint = self.folder / CHECKPOINT_FILE
        if checkpoint.exists():
            step = describe_checkpoint(checkpoint).step
            if step > self.steps:
                raise UserError(f"the run is at step {step} already, beyond the {self.length()} asked for")

    def _begin(self) -> None:
        self.write_folder()
        dtype = "" if self.dtype is None else f"{str(self.dtype).removeprefix('torch.')}, "
        print(f"{self.describe()}; on {self.device}, {dtype}{torch.get_num_threads()} thread(s)", flush=True)
        note = busy_note() if self.device.type == "cpu" else None
        if note is not None:
            print(f"ds: note: {note}", file=sys.stderr, flush=True)
        if not self.resumed:
            self.before_training()

    def _finish(self) -> None:
        weights, trainer = self.final_weights(), self.trainer
        known = {"steps": trainer.step, "weights": weights, "seconds": round(trainer.seconds, 2)}
        save_results(self.folder, {**known, **self.report()})
        if self.options.plots:
            try:
                self.plot()
            except MissingPackageError as error:
                print(f"no plots: {error}")
        print(f"weights of {weights}; {trainer.seconds:.1f} s of training")
        for path in sorted(self.folder.iterdir()):
            if path.name != LOCK_FILE:
                print(f"  {path}")
        commands = "".join(f"\n  {command_here()} {words}" for words in self.next_commands())
        print(f"\ntry next:{commands}", flush=True)
