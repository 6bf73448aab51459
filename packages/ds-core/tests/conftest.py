"""A small model to train, for the tests of the training loop."""

import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ds_core import Linear, Module, Sequential, Trainer

# pytest's importlib mode puts no folder on the path, and some tests share classes (planted_layers.py and others)
sys.path.append(str(Path(__file__).parent))

from squared_error import Squares


class Absolute(Module):
    def forward(self, x):
        self.save(x)
        return x.abs()

    def backward(self, dy):
        (x,) = self.saved()
        return None if dy is None else dy * x.sign()


class Noise(Module):
    """Multiplied by random numbers while training."""

    def forward(self, x):
        factor = torch.rand_like(x) + 0.5 if self.training else torch.ones_like(x)
        self.save(factor)
        return x * factor

    def backward(self, dy):
        (factor,) = self.saved()
        return None if dy is None else dy * factor


class Points:
    """y = x_1 - x_2; from step `bad` on the inputs are enormous, and their squared errors infinite."""

    def __init__(self, bad=None):
        self.bad = bad
        self.asked = []

    def batch(self, index):
        self.asked.append(index)
        generator = torch.Generator().manual_seed(index)
        x = torch.rand(4, 2, generator=generator)
        y = x[:, :1] - x[:, 1:]
        return (x if self.bad is None or index < self.bad else x * 1e25), y


def make(folder=None, **options):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = Sequential(Linear(2, 5), Absolute(), Noise(), Linear(5, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
    options = {"progress": False, "schedule": schedule, **options}
    return Trainer(model, Squares(), optimizer, folder=folder, **options)


def weights(trainer):
    return torch.cat([tensor.detach().reshape(-1) for tensor in trainer.model.parameters()])


def validation(model):
    assert not any(module.training for module in model.modules())
    assert not torch.is_grad_enabled()
    torch.rand(1), random.random(), np.random.rand()
    x, y = Points().batch(10**6)
    return {"loss": (model(x) - y).square().mean()}


@pytest.fixture(scope="session")
def imported():
    """All modules of a new process after importing what needs no extra: training, the command line, data, text."""
    program = """
import importlib, pkgutil, sys
import ds_core.training.trainer, ds_core.cli.main, ds_core.data.datasets, ds_core.data.loader, ds_core.data.tables
import ds_core.text
for module in pkgutil.walk_packages(ds_core.text.__path__, "ds_core.text."):
    importlib.import_module(module.name)
print(*sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.fixture
def small():
    """`small.make(folder, **options)` is a Trainer of a small model, which learns `small.Points()`; and its parts."""
    return SimpleNamespace(
        make=make, weights=weights, validation=validation, Points=Points, Noise=Noise, Squares=Squares
    )
