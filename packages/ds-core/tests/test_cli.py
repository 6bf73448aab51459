"""The `ds` command: what it prints, what it returns, and that no mistake shows a traceback."""

import errno
import math
import os
import signal
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import ds_core.recipes.recipe
import pytest
import torch
from ds_core import Linear, Module, Trainer, UserError, __version__, is_plain
from ds_core.cli.main import main
from ds_core.options import option
from ds_core.recipes import Command, Recipe
from ds_core.training.run_folder import open_run_folder, store_options
from ds_core.training.run_options import RunOptions


class Squares(Module):
    def forward(self, input, target):
        self.save(input - target)
        return (input - target).square().mean()

    def backward(self, grad=None):
        (difference,) = self.saved()
        return 2 * difference / difference.numel()


class Ones:
    def __init__(self, scale):
        self.scale = scale

    def batch(self, index):
        return torch.full((2, 1), self.scale), torch.zeros(2, 1)


@dataclass
class TinyOptions(RunOptions):
    out: Path = option(Path("runs/tiny"), "the run folder", may_change=True)
    steps: int = option(5, "optimizer steps", minimum=1, may_change=True)
    scale: float = option(1.0, "size of the inputs")
    press: int = option(0, "presses Ctrl-C at this step", may_change=True)
    mode: str = option("train", "what happens", choices=["train", "full disk", "bug"], may_change=True)


class Press:
    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, metrics):
        if trainer.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def train(options):
    folder = open_run_folder("tiny", options)
    if options.mode == "full disk":
        raise OSError(errno.ENOSPC, "No space left on device", "sample.txt")
    if options.mode == "bug":
        raise KeyError("a bug")
    torch.manual_seed(0)
    model = Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(
        model,
        Squares(),
        optimizer,
        folder=folder,
        checkpoint_every=2,
        evaluate=lambda model: {"loss": float(model.weight.detach().square())},
        callbacks=[Press(options.press)],
        progress=False,
    )
    if options.resume:
        trainer.resume()
        store_options("tiny", options)
    trainer.fit(Ones(options.scale), options.steps)
    print(f"trained to step {trainer.step}")


@dataclass
class SayOptions:
    prompt: str = option("", "how it begins")
    times: int = option(1, "how often", minimum=1)


def say(folder, options):
    print(f"{folder.name}: {options.prompt * options.times}")


class Checked:
    ok = True

    def __init__(self):
        self.text = "plain" if is_plain() else "a table"

    def __str__(self):
        return self.text


def failing():
    assert math.pi < 3, "gradients differ"


GENERATE = Command("generate", "say it", SayOptions, say)
RECIPES = {
    "tiny": Recipe("tiny", "one weight", TinyOptions, train, (GENERATE,), Checked),
    "mute": Recipe("mute", "has no commands", SayOptions, lambda options: None, check=failing),
    "wrong": Recipe("wrong", "fails", SayOptions, lambda options: None, check=lambda: type("No", (), {"ok": False})()),
}


class Here(EntryPoint):
    dist = None

    def load(self):
        return RECIPES[self.name]


@pytest.fixture(autouse=True)
def in_a_folder_with_recipes(monkeypatch, tmp_path):
    points = EntryPoints(Here(name, "here:recipe", "ds.recipes") for name in RECIPES)
    monkeypatch.setattr(ds_core.recipes.recipe, "entry_points", lambda group: points)
    monkeypatch.delenv("DS_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)


def run(capsys, *words):
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


def complaint(capsys, *words, status=2):
    """The one line on stderr of a command that fails."""
    found, _, err = run(capsys, *words)
    assert found == status
    assert err.startswith("ds: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("ds: error: ").rstrip("\n")


def test_help_and_version(capsys):
    assert run(capsys, "--version") == (0, f"ds {__version__}\n", "")
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert "ds train RECIPE" in out
    assert "  ds generate FOLDER [options]   say it\n" in out
    assert run(capsys)[0] == 2
    assert "ds train RECIPE" in run(capsys, "train", "--help")[1]
    assert "ds generate FOLDER" in run(capsys, "generate", "--help")[1]
    assert "installed: tiny, mute, wrong" in run(capsys, "check", "-h")[1].replace("mute, tiny", "tiny, mute")
    status, out, _ = run(capsys, "train", "tiny", "--help")
    assert status == 0
    assert "optimizer steps (default: 5)" in out
    assert "--resume" in out


def test_list(capsys, monkeypatch):
    status, out, _ = run(capsys, "list")
    assert status == 0
    assert out.splitlines()[1] == "tiny   one weight  [? ?]"
    monkeypatch.setattr(ds_core.recipes.recipe, "entry_points", lambda group: EntryPoints())
    assert run(capsys, "list")[1] == "no recipes are installed\n"


@pytest.mark.parametrize(
    "fault",
    [
        ImportError("no module named x"),
        AttributeError("no recipe"),
        SyntaxError("invalid syntax"),
        RuntimeError("two\nlines"),
        OSError(2, "No such file"),
        KeyError("HOME"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_recipe_that_cannot_be_loaded_does_not_hide_the_others(capsys, monkeypatch, fault):
    def load(self):
        if self.name == "mute":
            raise fault
        return RECIPES[self.name]

    monkeypatch.setattr(Here, "load", load)
    status, out, _ = run(capsys, "list")
    assert status == 0
    assert f"cannot be loaded (here:recipe): {type(fault).__name__}: " in out
    assert "one weight" in out
    assert len(out.splitlines()) == len(RECIPES)
    assert "recipe mute of ? ? cannot be loaded" in complaint(capsys, "train", "mute")


def test_train_resume_generate_info(capsys):
    assert run(capsys, "train", "tiny", "--steps", "3") == (0, "trained to step 3\n", "")
    assert run(capsys, "train", "tiny", "--resume", "--steps", "4") == (0, "trained to step 4\n", "")
    assert run(capsys, "train", "tiny", "--resume") == (0, "trained to step 4\n", "")
    assert run(capsys, "train", "tiny", "--overwrite", "--scale", "2")[0] == 0
    expected = (0, "tiny: haha\n", "")
    assert run(capsys, "generate", "runs/tiny", "--prompt", "ha", "--times", "2") == expected
    assert run(capsys, "generate", "tiny", "--prompt", "haha") == expected
    status, out, _ = run(capsys, "info", "runs/tiny")
    assert status == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["recipe"] == "tiny"
    assert lines["step"] == "5"
    assert lines["--scale"] == "2.0"
    assert "best loss" in out
    assert "checkpoint.safetensors" in out


def test_info_of_this_installation(capsys):
    status, out, _ = run(capsys, "info")
    assert status == 0
    for name in ("ds-core", "torch", "python", "devices", "threads", "C++ compiler"):
        assert name in out


def test_mistakes_on_the_command_line(capsys):
    assert complaint(capsys, "trian", "tiny") == "unknown command 'trian'; did you mean train? (see ds --help)"
    assert complaint(capsys, "train", "tinny") == "unknown recipe 'tinny'; did you mean tiny? (see ds list)"
    assert complaint(capsys, "train").startswith("train what? ds train RECIPE [options]; installed: ")
    assert complaint(capsys, "train", "--steps", "3", "tiny").startswith("train what?")
    assert "did you mean --steps?" in complaint(capsys, "train", "tiny", "--setps", "3")
    assert "expected at least 1" in complaint(capsys, "train", "tiny", "--steps", "0")
    assert "contradict" in complaint(capsys, "train", "tiny", "--resume", "--overwrite")
    assert complaint(capsys, "generate").startswith("generate with what?")
    assert complaint(capsys, "generate", "nothing") == "no run to generate with: looked for recipe.json in nothing"
    assert complaint(capsys, "generate", "tiny").endswith("looked for recipe.json in tiny, runs/tiny")
    assert "unexpected argument 'x'" in complaint(capsys, "list", "x")
    assert "no such folder" in complaint(capsys, "info", "nothing")
    assert not os.path.exists("runs")


def test_mistakes_about_the_folder(capsys):
    assert "no such folder" in complaint(capsys, "train", "tiny", "--resume")
    assert main(["train", "tiny"]) == 0
    capsys.readouterr()
    before = Path("runs/tiny/checkpoint.safetensors").read_bytes()
    assert "already holds a run of tiny" in complaint(capsys, "train", "tiny")
    assert "--scale: given 2.0, the run began with 1.0" in complaint(
        capsys, "train", "tiny", "--resume", "--scale", "2"
    )
    assert "at step 5 already" in complaint(capsys, "train", "tiny", "--resume", "--steps", "3")
    assert "did you mean --prompt?" in complaint(capsys, "generate", "runs/tiny", "--promt", "x")
    assert Path("runs/tiny/checkpoint.safetensors").read_bytes() == before
    open_run_folder("mute", RunOptions(out=Path("runs/mute")))
    assert complaint(capsys, "generate", "runs/mute").endswith("mute, which has no ds generate; it has nothing")
    open_run_folder("gone", RunOptions(out=Path("runs/gone")))
    assert "unknown recipe 'gone'" in complaint(capsys, "generate", "runs/gone")
    assert "no checkpoint yet" in run(capsys, "info", "runs/gone")[1]
    Path("runs/tiny/checkpoint.safetensors").write_bytes(before[:100])
    assert "damaged" in complaint(capsys, "info", "runs/tiny", status=1)
    assert "damaged" in complaint(capsys, "train", "tiny", "--resume", status=1)


def test_what_goes_wrong_on_the_way(capsys):
    message = complaint(capsys, "train", "tiny", "--scale", "1e30", status=1)
    assert message.startswith("step 1: the loss is inf; every layer's output is finite, the loss Squares() is not;")
    message = complaint(capsys, "train", "tiny", "--overwrite", "--mode", "full disk", status=1)
    assert message == "[Errno 28] No space left on device: 'sample.txt'"


def test_ctrl_c_saves_and_says_how_to_go_on(capfd):
    assert main(["train", "tiny", "--out", "runs/b b", "--press", "3"]) == 130
    err = capfd.readouterr().err
    assert "finishing this step, then saving" in err
    assert "ds: stopped after step 3 of 5; saved in runs/b b/checkpoint.safetensors\n" in err
    assert "ds: to continue: ds train tiny --out 'runs/b b' --resume\n" in err
    assert "Traceback" not in err
    assert main(["train", "tiny", "--out", "runs/b b", "--resume"]) == 0
    assert capfd.readouterr().out == "trained to step 5\n"


def test_ctrl_c_before_the_first_step_says_how_to_go_on(capsys, monkeypatch):
    """If the folder holds the run by then; what another run has left there is not to be continued."""

    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    go_on = "ds: to continue: ds train tiny --out runs/tiny --resume\n"
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.open_run_folder", stopped)
        assert run(capsys, "train", "tiny") == (130, "", "ds: stopped\n")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", stopped)
        assert run(capsys, "train", "tiny") == (130, "", f"ds: stopped\n{go_on}")
        assert run(capsys, "train", "tiny", "--resume") == (130, "", f"ds: stopped\n{go_on}")
        os.utime("runs/tiny/recipe.json", (0, 0))  # clocks of files may be coarse
        assert run(capsys, "train", "tiny", "--overwrite") == (130, "", f"ds: stopped\n{go_on}")
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.open_run_folder", stopped)
        assert run(capsys, "train", "tiny", "--overwrite") == (130, "", "ds: stopped\n")
    assert run(capsys, "train", "tiny", "--resume")[:2] == (0, "trained to step 5\n")


def test_check(capsys):
    assert run(capsys, "check", "tiny") == (0, "a table\n", "")
    assert run(capsys, "check", "tiny", "--plain") == (0, "with the plain form of every operation:\nplain\n", "")
    assert not is_plain()
    assert "did you mean --plain?" in complaint(capsys, "check", "tiny", "--plan")
    assert run(capsys, "check", "wrong")[0] == 1
    status, _, err = run(capsys, "check", "mute")
    assert (status, err.split("\n")[0]) == (1, "ds: mute fails its check: gradients differ")


def test_debug_shows_where_an_error_comes_from(monkeypatch):
    with pytest.raises(UserError):
        main(["--debug", "train", "tinny"])
    monkeypatch.setenv("DS_DEBUG", "1")
    with pytest.raises(UserError):
        main(["train", "tinny"])


def test_a_bug_is_not_hidden():
    with pytest.raises(KeyError):
        main(["train", "tiny", "--mode", "bug"])
