"""A run killed at any moment and resumed ends bit for bit where an unbroken one ends.

One process imports PyTorch and then forks a child for each session of training, which
costs milliseconds; the children are killed by SIGKILL, by themselves at chosen places or
from outside at any.
"""

import json
import os
import subprocess
import sys

import pytest

SESSIONS = '''
import json, os, random, resource, shutil, signal, sys, time, traceback
import numpy as np, torch
torch.set_num_threads(1)
import ds_core.atomic_files
from ds_core.training import checkpoint
from ds_core.training.history import JsonLines
from ds_core import Linear, Module, Sequential, no_record
from ds_core.optimizers.adam import AdamW
from ds_core.training.callbacks import Callback
from ds_core.training.early_stopping import EarlyStopping
from ds_core.layers.dropout import Dropout
from ds_core.schedules.warmup_cosine import WarmupCosineLR
from ds_core.training.trainer import Trainer
from safetensors import safe_open
from safetensors.torch import load_file

STEPS = 24
ROOT = sys.argv[1]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Noise(Module):
    """Random while training, with a running mean: a generator and a buffer that must come back."""

    def __init__(self):
        self.mean = torch.zeros(())

    def forward(self, x):
        factor = torch.rand_like(x)
        if self.training:
            with no_record():
                self.mean.lerp_(x.mean(), 0.1)
        y = (x + self.mean) * factor
        self.save(factor)
        return y

    def backward(self, dy):
        (factor,) = self.saved()
        return None if dy is None else dy * factor


class Tied(Sequential):
    def __init__(self):
        super().__init__(Linear(3, 3), Noise(), Linear(3, 3), Dropout(0.3), Linear(3, 1))
        getattr(self, "2").weight = getattr(self, "0").weight


class Squares(Module):
    def forward(self, input, target):
        self.save(input - target)
        return (input - target).square().mean()

    def backward(self, grad=None):
        (difference,) = self.saved()
        gradient = 2 * difference / difference.numel()
        return gradient if grad is None else gradient * grad


class Points:
    def batch(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.rand(4, 3, generator=generator), torch.rand(4, 1, generator=generator)


class Jitter(Callback):
    """Draws from Python's and NumPy's generators, and remembers a number."""

    def __init__(self, fault):
        self.total, self.fault = 0.0, fault

    def on_step_end(self, trainer, metrics):
        self.total += random.gauss(0, 1) + float(np.random.standard_normal())
        with torch.no_grad():
            trainer.model[4].bias.add_(1e-3 * self.total)
        if self.fault == f"step {trainer.step}":
            die()
        if self.fault == "slow":
            time.sleep(0.04)

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


def train(folder, fault):
    torch.manual_seed(1), random.seed(2), np.random.seed(3)
    model = Tied()
    optimizer = AdamW(model.parameters(), lr=0.01, amsgrad=True)
    schedule = WarmupCosineLR(optimizer, 5, STEPS, 1e-3)

    def evaluate(model):
        if fault == f"evaluation {trainer.step}":
            die()
        torch.rand(3), random.random(), np.random.rand()
        return {"loss": Squares()(model(Points().batch(10**6)[0]), 0.5)}

    trainer = Trainer(
        model, Squares(), optimizer, schedule=schedule, clip_norm=0.5, accumulate=2, folder=folder, evaluate=evaluate,
        evaluate_every=3, checkpoint_every=4, callbacks=[Jitter(fault), EarlyStopping(patience=100)], progress=False,
    )
    trainer.resume()
    break_writes(fault, trainer)
    trainer.fit(Points(), STEPS)


def break_writes(fault, trainer):
    """Make the second checkpoint of this session, or a line of the log, the moment of death."""
    save_file, replace, append = checkpoint.save_file, os.replace, JsonLines.append
    count = [0]

    def second():
        count[0] += 1
        return count[0] == 2

    def half(tensors, path, metadata):
        save_file(tensors, path, metadata)
        if second():
            with open(path, "r+b") as file:
                file.truncate(os.path.getsize(path) // 2)
            (path.parent / ".tmp0XS8Vu").write_bytes(b"x")  # safetensors writes under such a name, then renames
            die()

    def before(source, target):
        if second():
            die()
        replace(source, target)

    def after(source, target):
        replace(source, target)
        if second():
            die()

    def cut_line(log, record):
        if record["step"] == 7:
            with open(log.path, "ab") as file:
                file.write(json.dumps(record).encode()[:20])
            die()
        append(log, record)

    if fault == "half of the checkpoint written":
        checkpoint.save_file = half
    elif fault == "first checkpoint half written":
        count[0] = 1
        checkpoint.save_file = half
    elif fault == "before the rename":
        os.replace = before
    elif fault == "after the rename":
        os.replace = after
    elif fault == "in a line of the log":
        JsonLines.append = cut_line
    elif fault == "disk full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))


def session(folder, fault=None, after=None):
    """Train in a child until it ends or dies, by our hand after some seconds; returns how it ended."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            train(folder, fault)
            status = 0
        except BaseException as error:
            print(type(error).__name__ + ": " + str(error), file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9 else f"status {os.WEXITSTATUS(status)}"


def outcome(folder):
    """Everything a run leaves behind, but for the clock."""
    path = f"{folder}/checkpoint.safetensors"
    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()["state"])
    del state["extra"]["trainer"]["seconds"]
    with open(f"{folder}/log.jsonl") as file:
        log = [{**json.loads(line), "seconds": 0} for line in file]
    return state, load_file(path), log, sorted(os.listdir(folder))


def equal(a, b):
    tensors = a[1].keys() == b[1].keys() and all(torch.equal(a[1][name], b[1][name]) for name in a[1])
    return {"state": a[0] == b[0], "tensors": tensors, "log": a[2] == b[2], "files": a[3] == b[3]}


def main():
    unbroken = f"{ROOT}/unbroken"
    print(json.dumps(["unbroken", [session(unbroken)], {}]))
    expected = outcome(unbroken)
    assert expected[0]["step"] == STEPS and expected[3] == ["checkpoint.safetensors", "log.jsonl"], expected
    faults = [
        ["step 1"], ["step 8"], ["step 9", "step 15", "step 24"], ["evaluation 9"], ["evaluation 12", "evaluation 24"],
        ["first checkpoint half written"], ["half of the checkpoint written"], ["before the rename"],
        ["before the rename", "half of the checkpoint written"], ["after the rename"], ["in a line of the log"],
        ["step 10", "disk full"],
    ]
    for index, scenario in enumerate(faults):
        folder = f"{ROOT}/{index}"
        ends = [session(folder, fault) for fault in scenario] + [session(folder)]
        print(json.dumps([", ".join(scenario), ends, equal(outcome(folder), expected)]))
    folder = f"{ROOT}/outside"
    ends = [session(folder, "slow", after=seconds) for seconds in (0.02, 0.23, 0.05, 0.26, 0.09)] + [session(folder)]
    print(json.dumps(["from outside", ends, equal(outcome(folder), expected)]))


main()
'''

SCENARIOS = {
    "unbroken": ["status 0"],
    "step 1": ["killed", "status 0"],
    "step 8": ["killed", "status 0"],
    "step 9, step 15, step 24": ["killed", "killed", "killed", "status 0"],
    "evaluation 9": ["killed", "status 0"],
    "evaluation 12, evaluation 24": ["killed", "killed", "status 0"],
    "first checkpoint half written": ["killed", "status 0"],
    "half of the checkpoint written": ["killed", "status 0"],
    "before the rename": ["killed", "status 0"],
    "before the rename, half of the checkpoint written": ["killed", "killed", "status 0"],
    "after the rename": ["killed", "status 0"],
    "in a line of the log": ["killed", "status 0"],
    "step 10, disk full": ["killed", "status 1", "status 0"],
    "from outside": ["killed"] * 5 + ["status 0"],
}


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run = subprocess.run(
        [sys.executable, "-c", SESSIONS, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    return {name: (ends, same) for name, ends, same in map(json.loads, run.stdout.splitlines())}, run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_ends_where_an_unbroken_run_ends(sessions, scenario):
    ends, same = sessions[0][scenario]
    assert ends == SCENARIOS[scenario]
    assert all(same.values()), same


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_disk_that_was_full_is_reported_in_one_line(sessions):
    (line,) = sessions[1].splitlines()
    assert line.startswith("WriteError: cannot write ")
    assert line.endswith("; what it held before is still there")
