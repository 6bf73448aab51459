"""A run that is saved in the middle and taken up anew ends bit for bit where the unbroken run ends.

For every optimizer, and for every schedule; one of its own joins by a line in `OPTIMIZERS` or `SCHEDULES`. Runs that
are killed at any moment, with everything else that a checkpoint holds: test_kill_and_resume.py.
"""

import importlib
import inspect
import pkgutil

import ds_core.optimizers
import ds_core.schedules
import pytest
import torch
from ds_core import (
    GELU,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    BaseOptimizer,
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CrossEntropyLoss,
    ExponentialLR,
    FlatOptimizer,
    LambdaLR,
    LayerNorm,
    Linear,
    LinearLR,
    Lion,
    MultiStepLR,
    Muon,
    NAdam,
    NoamLR,
    OneCycleLR,
    PolynomialLR,
    RAdam,
    ReduceLROnPlateau,
    RMSprop,
    Schedule,
    Sequential,
    SequentialLR,
    StepLR,
    WarmupCosineLR,
    load_checkpoint,
    save_checkpoint,
    whole_step,
)
from ds_core.schedules.schedule import FactorSchedule

STEPS, SAVED = 12, 5

OPTIMIZERS = {
    SGD: {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
    Adam: {"amsgrad": True},
    AdamW: {},
    Adagrad: {"lr_decay": 0.1, "initial_accumulator_value": 0.1},
    RMSprop: {"momentum": 0.9, "centered": True, "alpha": 0.9},
    Adadelta: {},
    Adamax: {"weight_decay": 0.01},
    NAdam: {"weight_decay": 0.01, "decoupled_weight_decay": True},
    RAdam: {"betas": (0.9, 0.9)},  # is rectified from the seventh step on, after it was saved
    Lion: {"weight_decay": 0.1},
    Muon: {},
}

SCHEDULES = {
    WarmupCosineLR: lambda o: WarmupCosineLR(o, 3, 10, 0.001),
    StepLR: lambda o: StepLR(o, 3, 0.5),
    MultiStepLR: lambda o: MultiStepLR(o, [2, 7], 0.5),
    ExponentialLR: lambda o: ExponentialLR(o, 0.9),
    ConstantLR: lambda o: ConstantLR(o, 0.5, 7),
    LinearLR: lambda o: LinearLR(o, 0.1, 1.0, 8),
    PolynomialLR: lambda o: PolynomialLR(o, 10, 2.0),
    CosineAnnealingLR: lambda o: CosineAnnealingLR(o, 10, 0.001),
    CosineAnnealingWarmRestarts: lambda o: CosineAnnealingWarmRestarts(o, 3, 2),
    LambdaLR: lambda o: LambdaLR(o, lambda step: 1 / (step + 1)),
    NoamLR: lambda o: NoamLR(o, 8, 4),
    OneCycleLR: lambda o: OneCycleLR(o, 0.1, STEPS + 1),
    SequentialLR: lambda o: SequentialLR(o, [ConstantLR(o, 0.1, 3), ExponentialLR(o, 0.9)], [4]),
    ChainedScheduler: lambda o: ChainedScheduler([ConstantLR(o, 0.1, 7), ExponentialLR(o, 0.9)], o),
    ReduceLROnPlateau: lambda o: ReduceLROnPlateau(o, patience=1, factor=0.5, threshold=10.0, threshold_mode="abs"),
}


def members(package, kind):
    """The classes of all modules of `package` that have what `kind` has and are meant to be used as they are."""
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        for name, member in inspect.getmembers(module, inspect.isclass):
            used = member.__module__ == module.__name__ and not name.startswith("_")
            if used and all(hasattr(member, method) for method in kind):
                yield member


class Run:
    """Model, optimizer and schedule of a small run, from the same start each time or from another."""

    def __init__(self, optimizer=AdamW, options=None, schedule=WarmupCosineLR, seed=0):
        torch.manual_seed(seed)
        self.model = Sequential(Linear(6, 8), LayerNorm(8), GELU(), Linear(8, 8), Linear(8, 3))
        parameters = [p for p in self.model.parameters() if optimizer is not Muon or p.dim() == 2]
        groups = [{"params": parameters[:2]}, {"params": parameters[2:], "weight_decay": 0.05}]
        self.optimizer = optimizer(groups, lr=0.02, **(options or {}))
        self.schedule = SCHEDULES[schedule](self.optimizer)
        self.step = whole_step(self.model, CrossEntropyLoss(), self.optimizer)

    def go(self, first, last):
        for index in range(first, last):
            generator = torch.Generator().manual_seed(index)
            x = torch.randn(5, 6, generator=generator)
            loss, _ = self.step([(x, torch.randint(3, (5,), generator=generator))])
            if isinstance(self.schedule, ReduceLROnPlateau):
                self.schedule.step(loss)
            else:
                self.schedule.step()
        return self


def check_resumed(path, **choices):
    whole = Run(**choices).go(0, STEPS)
    first = Run(**choices).go(0, SAVED)
    save_checkpoint(path, model=first.model, optimizer=first.optimizer, schedule=first.schedule, step=SAVED)
    second = Run(**choices, seed=1)
    found = load_checkpoint(path, model=second.model, optimizer=second.optimizer, schedule=second.schedule)
    second.go(found.step, STEPS)
    first.go(SAVED, STEPS)  # saving has not disturbed it
    for run in (first, second):
        for (name, given), (_, expected) in zip(
            run.model.named_parameters(), whole.model.named_parameters(), strict=True
        ):
            assert torch.equal(given, expected), name
        state, expected = run.optimizer.state_dict(), whole.optimizer.state_dict()
        torch.testing.assert_close(state["state"], expected["state"], rtol=0, atol=0)
        assert state["param_groups"] == expected["param_groups"]
        assert run.schedule.state_dict() == whole.schedule.state_dict()
    untouched = Run(**choices).model.named_parameters()
    moved = dict(whole.model.named_parameters())
    assert any(not torch.equal(start, moved[name]) for name, start in untouched)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda kind: kind.__name__)
def test_every_optimizer(optimizer, tmp_path):
    check_resumed(tmp_path / "run.safetensors", optimizer=optimizer, options=OPTIMIZERS[optimizer])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda kind: kind.__name__)
def test_every_schedule(schedule, tmp_path):
    check_resumed(tmp_path / "run.safetensors", schedule=schedule)


def test_none_is_forgotten():
    """One that is missing below is entered in `OPTIMIZERS` or `SCHEDULES` above."""
    optimizers = set(members(ds_core.optimizers, ("load_state_dict", "step"))) - {BaseOptimizer, FlatOptimizer}
    schedules = set(members(ds_core.schedules, ("load_state_dict", "step"))) - {Schedule, FactorSchedule}
    assert optimizers == set(OPTIMIZERS)
    assert schedules == set(SCHEDULES)


@pytest.mark.parametrize("kind", [*OPTIMIZERS, *SCHEDULES], ids=lambda kind: kind.__name__)
def test_it_is_exported(kind):
    assert kind.__name__ in ds_core.__all__
