"""The options that recipes share: where a run is kept, and how it computes."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ds_core.errors import UserError
from ds_core.options import option

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

# Recipes make two streams of batches of one seed, 2 * seed and 2 * seed + 1, which have to be 64-bit numbers
LARGEST_SEED = 2**62

# More threads than any machine has processors: the system fails to start so many, and the process with it
MOST_THREADS = max(1024, os.cpu_count() or 1)


@dataclass
class RunOptions:
    """The options of every recipe that trains in a run folder; inherit from it and give `out` a default."""

    out: Path = option(Path("runs/run"), "the run folder: checkpoint, log, results and plots", may_change=True)
    resume: bool = option(False, "continue the run in the folder", may_change=True)
    overwrite: bool = option(False, "start again in a folder that holds a run", may_change=True)
    seed: int = option(0, "seed of the initial weights, the batches and dropout", minimum=0, maximum=LARGEST_SEED)
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto is cuda if there is one", may_change=True)
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1, maximum=MOST_THREADS)
    plots: bool = option(True, "draw plots (needs matplotlib)", may_change=True)

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise UserError("--resume and --overwrite contradict each other: continue the run, or start again?")


@dataclass
class PrecisionOptions:
    """The options of recipes with a choice of dtype and of what is compiled.

    Inherit from it beside `RunOptions`: `class Options(PrecisionOptions, RunOptions)`.
    """

    dtype: str = option("float32", "dtype of weights and activations", choices=list(DTYPES))
    compile: str = option(
        "none",
        "what is compiled: nothing, the elementwise functions one by one, or the whole step",
        choices=["none", "pairs", "step"],
    )
