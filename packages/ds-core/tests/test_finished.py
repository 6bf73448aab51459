"""What the other commands of a recipe ask of a run folder."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from ds_core import UserError
from ds_core.options import option
from ds_core.recipes.finished import check_evaluated, options_of_run
from ds_core.training.run_folder import CHECKPOINT_FILE, open_run_folder
from ds_core.training.run_options import RunOptions


@dataclass
class Options(RunOptions):
    """Of a recipe."""

    out: Path = Path("runs/x")
    width: int = option(3, "of it", minimum=1)


def test_the_options_of_a_run_come_back(tmp_path):
    open_run_folder("mine", Options(out=tmp_path / "run", width=7), ())
    assert options_of_run(tmp_path / "run", Options).width == 7
    with pytest.raises(UserError, match="no run folder"):
        options_of_run(tmp_path / "nowhere", Options)


def test_only_a_checkpoint_without_best_weights_is_refused(tmp_path):
    check_evaluated(tmp_path, "mine")  # what is missing altogether is said by whoever reads it
    (tmp_path / CHECKPOINT_FILE).touch()
    with pytest.raises(UserError, match=r"no evaluation yet.*ds train mine --resume"):
        check_evaluated(tmp_path, "mine")
    (tmp_path / "config.json").touch()
    check_evaluated(tmp_path, "mine", "config.json")
    (tmp_path / "model.safetensors").touch()
    check_evaluated(tmp_path, "mine")
