"""Tiny runs of the recipe `minigpt`, for the tests of it."""

import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from ds_core.cli.main import main
from ds_core.text.tokenizers import load_tokenizer
from ds_core.training.run_folder import CHECKPOINT_FILE

# pytest's importlib mode puts no folder on the path, and tests share tiny_minigpt.py
sys.path.append(str(Path(__file__).parent))

from tiny_minigpt import words, write_text


@pytest.fixture
def tiny():
    """The options of a tiny run, with these changes, as words of the command line."""
    return words


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def run(text, tmp_path, ds):
    """Train a tiny model into `out`; returns exit status, what was printed, and what was complained about."""

    def train(*more, out=tmp_path / "out", **options):
        return ds("train", "minigpt", "--text", text, "--out", out, *words(**options), *more)

    return train


@pytest.fixture
def ds(capsys):
    """Any other command; what it returned, printed and complained about."""

    def command(*arguments):
        capsys.readouterr()
        return main([str(argument) for argument in arguments]), *capsys.readouterr()

    return command


@pytest.fixture(scope="session")
def model_run(tmp_path_factory):
    """A folder with a finished run in it, made once."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "text.txt").write_text("to be or not to be\n" * 20)
    assert main(["train", "minigpt", "--text", f"{folder}/text.txt", "--out", f"{folder}/out", *words()]) == 0
    return folder


@pytest.fixture
def trained(model_run, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(model_run / "out", tmp_path / "trained"))


@pytest.fixture
def complaint():
    """The one line that a failed command ends with; progress and notes may stand before it."""

    def line(result):
        status, _, complaints = result
        assert status not in (0, None)
        lines = [line for line in complaints.splitlines() if line.startswith("ds: error:")]
        assert len(lines) == 1, complaints
        assert complaints.rstrip().endswith(lines[0])
        assert "Traceback" not in complaints
        return lines[0]

    return line


@pytest.fixture
def trained_weights():
    """The weights in a run folder's checkpoint."""

    def read(folder):
        tensors = safetensors.torch.load_file(folder / CHECKPOINT_FILE)
        weights = {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}
        assert weights
        return weights

    return read


@pytest.fixture
def validation_tokens():
    """The tokens of the last tenth of a text, by the tokenizer of a run folder."""

    def read(text, folder):
        whole = text.read_text()
        return load_tokenizer(folder / "tokenizer.json").encode(whole[int(len(whole) * 0.9) :])

    return read


@pytest.fixture
def content():
    """Every file of a folder, by name."""

    def read(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    return read


@pytest.fixture
def equal():
    """Whether two dictionaries hold the same tensors."""

    def compare(first, second):
        return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)

    return compare
