"""Tests share vit_twins.py and tiny_minivit.py: pytest's importlib mode puts no folder on the path."""

import shutil
import sys
from pathlib import Path

import pytest
from ds_core.cli.main import main

sys.path.append(str(Path(__file__).parent))

from tiny_minivit import words, write_folder


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Folders of images that lie where they are for all parts of a check."""
    root = tmp_path_factory.mktemp("images")
    write_folder(root / "images")
    write_folder(root / "other", seed=7)
    return root


@pytest.fixture(scope="session")
def finished(images, tmp_path_factory):
    """A folder with a finished run in it, made once: level or upright stripes."""
    out = tmp_path_factory.mktemp("finished") / "run"
    options = words(epochs=40, lr=1e-2)
    assert main(["train", "minivit", "--images", str(images / "images"), "--out", str(out), *options]) == 0
    return out


@pytest.fixture
def trained(finished, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "trained"))


@pytest.fixture
def ds(capsys):
    """A command; what it returned, printed and complained about."""

    def command(*arguments):
        capsys.readouterr()
        return main([str(argument) for argument in arguments]), *capsys.readouterr()

    return command


@pytest.fixture
def complaint():
    """The one line that a failed command ends with; progress and notes may stand before it."""

    def line(result):
        status, _, complaints = result
        assert status not in (0, None)
        lines = [line for line in complaints.splitlines() if line.startswith("ds: error:")]
        assert len(lines) == 1, complaints
        assert "Traceback" not in complaints
        return lines[0]

    return line
