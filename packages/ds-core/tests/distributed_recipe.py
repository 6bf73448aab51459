"""A recipe for the tests of `ds train` by several processes, one of which has a mishap. As a program: its `ds`."""

import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import ds_core.recipes.recipe
import numpy as np
import torch
from distributed_models import Points, Tied, build, trainer
from ds_core import Callback, UserError, no_record
from ds_core.cli.main import main
from ds_core.distributed.processes import current
from ds_core.options import option
from ds_core.recipes import Recipe
from ds_core.training.run_folder import open_run_folder, store_options
from ds_core.training.run_options import RunOptions


@dataclass
class Options(RunOptions):
    out: Path = option(Path("runs/points"), "the run folder", may_change=True)
    steps: int = option(12, "optimizer steps", may_change=True)
    dropout: float = option(0.3, "share of activations dropped")
    mishap: str = option("", "what happens to a rank after a step: kill-1-4", may_change=True)


class Mishap(Callback):
    """`kill-1-4`: rank 1 is killed after step 4."""

    def __init__(self, text):
        self.kind, self.rank, self.step = [*text.split("-"), *["none", "0", "0"]][:3]

    def on_step_end(self, trainer, metrics):
        if self.kind == "slow":
            time.sleep(0.05)
        if str(trainer.step) != self.step or self.rank not in ("all", str(current().rank)):
            return
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "bug":
            raise RuntimeError("a bug")
        if self.kind == "mistake":
            raise UserError("a mistake")
        if self.kind in ("SIGINT", "SIGTERM"):
            os.kill(os.getpid(), signal.Signals[self.kind])
        if self.kind == "twice":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        if self.kind == "hang":
            time.sleep(60)
        if self.kind == "stop":
            trainer.stop("enough")
        if self.kind == "drift":
            with no_record():
                trainer.model.layers[0].bias.add_(1e-9)


class Spoilt(Points):
    """On one rank the inputs of one step are so large that their squared error is infinite."""

    def __init__(self, text):
        self.spoilt = text

    def batch(self, index):
        x, y = super().batch(index)
        return (x * 1e200 if self.spoilt == f"infinite-{current().rank}-{index}" else x), y


def train(options):
    random.seed(0), np.random.seed(0)
    model, optimizer = build(Tied, dropout=options.dropout, mean=options.dropout > 0)
    folder = open_run_folder("points", options)
    callbacks = [] if options.mishap == "" else [Mishap(options.mishap)]
    made = trainer(
        model,
        optimizer,
        callbacks=callbacks,
        folder=folder,
        checkpoint_every=3,
        evaluate=lambda model: {"loss": float(model(Points().batch(99)[0]).square().mean()) + torch.rand(()).item()},
        evaluate_every=4,
        progress=True,
    )
    if options.resume:
        if options.mishap == f"blind-{current().rank}-0":
            made._files.has_checkpoint = lambda: False
        made.resume()
        store_options("points", options)
    print("training")
    made.fit(Spoilt(options.mishap), options.steps)
    print("done")


recipe = Recipe("points", "learns points", Options, train)


def ds(*words):
    """`ds` with these words in a process of its own, where only this recipe is installed."""

    class Here(EntryPoint):
        dist = None

        def load(self):
            return recipe

    ds_core.recipes.recipe.entry_points = lambda group: EntryPoints([Here("points", "here:recipe", "ds.recipes")])
    if words:
        sys.argv = ["ds", *words]
    sys.exit(main())


if __name__ == "__main__":
    ds()
