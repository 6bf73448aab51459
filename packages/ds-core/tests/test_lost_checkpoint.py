"""A run whose checkpoint is gone is not begun anew in silence; one that was killed before its first checkpoint is."""

import os

import pytest
from ds_core import Callback, CheckpointError, KeepBest, UserError
from ds_core.training.run_folder import open_run_folder, read_run_folder, remove_files, store_options
from ds_core.training.run_options import RunOptions


class DiesError(Exception):
    pass


class Dies(Callback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, metrics):
        if trainer.step == self.step:
            raise DiesError


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refused(small, folder, message, **options):
    before = content(folder)
    trainer = small.make(folder, **options)
    with pytest.raises(CheckpointError, match=message) as caught:
        trainer.resume()
    assert "\n" not in str(caught.value)
    assert "put it back, or start again in another folder" in str(caught.value)
    with pytest.raises(UserError, match=r"already holds a run: .* take another folder"):
        trainer.fit(small.Points(), 9)
    assert content(folder) == before
    assert trainer.step == 0


@pytest.mark.parametrize(
    ("options", "steps", "by"),
    [
        ({"evaluate_every": 2}, 3, 3),  # with the evaluation before it
        ({"evaluate_every": 3}, 5, 4),
        ({"evaluate_every": 20}, 5, 5),  # at the end, before the evaluation there
        ({"evaluate_every": 2, "checkpoint_every": 3}, 4, 4),
    ],
)
def test_what_the_log_shows_of_a_checkpoint(small, tmp_path, options, steps, by):
    options = {"evaluate": small.validation, **options}
    small.make(tmp_path, callbacks=[KeepBest()], **options).fit(small.Points(), steps)
    (tmp_path / "checkpoint.safetensors").unlink()
    message = rf"checkpoint\.safetensors is missing, which was written by step {by} of log\.jsonl"
    refused(small, tmp_path, message, callbacks=[KeepBest()], **options)


def test_a_link_that_leads_nowhere(small, tmp_path):
    small.make(tmp_path / "run").fit(small.Points(), 2)
    moved = tmp_path / "moved.safetensors"
    (tmp_path / "run" / "checkpoint.safetensors").rename(moved)
    (tmp_path / "run" / "checkpoint.safetensors").symlink_to(moved)
    trainer = small.make(tmp_path / "run")
    assert trainer.resume()
    moved.unlink()
    message = r"checkpoint\.safetensors is a link to .*moved\.safetensors, which is not there"
    refused(small, tmp_path / "run", message)


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({"evaluate_every": 3}, 1),
        ({"evaluate_every": 3}, 3),
        ({"evaluate_every": 2, "checkpoint_every": 5}, 4),  # with two evaluations and a best checkpoint
        ({"evaluate_every": 2, "checkpoint_every": 5}, 5),
    ],
)
def test_killed_before_its_first_checkpoint_it_starts_again(small, tmp_path, options, step):
    options = {"evaluate": small.validation, **options}
    with pytest.raises(DiesError):
        small.make(tmp_path, callbacks=[KeepBest(), Dies(step)], **options).fit(small.Points(), 8)
    assert not (tmp_path / "checkpoint.safetensors").exists()
    trainer = small.make(tmp_path, callbacks=[KeepBest()], **options)
    assert trainer.resume() is False
    trainer.fit(small.Points(), 8)
    assert [record["step"] for record in trainer.history.training] == [*range(1, 9)]


def test_the_record_of_a_recipe_says_that_there_was_one(small, tmp_path):
    """Also where the log does not show it: the run was stopped before a checkpoint was due."""
    options = RunOptions(out=tmp_path)
    open_run_folder("line", options, ["best.safetensors"])
    assert not read_run_folder(tmp_path).saved
    small.make(tmp_path).fit(small.Points(), 2)
    assert read_run_folder(tmp_path).saved
    before = (tmp_path / "recipe.json").stat().st_ino
    again = small.make(tmp_path)
    again.resume()
    store_options("line", RunOptions(out=tmp_path, resume=True), ["best.safetensors"])
    assert read_run_folder(tmp_path).saved
    again.fit(small.Points(), 3)
    (tmp_path / "checkpoint.safetensors").unlink()
    refused(small, tmp_path, r"checkpoint\.safetensors is missing, which this run has written")
    (tmp_path / "log.jsonl").unlink()
    refused(small, tmp_path, r"checkpoint\.safetensors is missing, which this run has written")
    assert before != (tmp_path / "recipe.json").stat().st_ino
    open_run_folder("line", RunOptions(out=tmp_path, overwrite=True))
    assert not read_run_folder(tmp_path).saved
    trainer = small.make(tmp_path)
    assert trainer.resume() is False
    trainer.fit(small.Points(), 2)
    remove_files(tmp_path, read_run_folder(tmp_path))
    assert os.listdir(tmp_path) == ["recipe.json"]
