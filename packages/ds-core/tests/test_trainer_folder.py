"""The folder of a training run: its checkpoints, taking it up again, and that no run in it is lost."""

import os

import ds_core.training.checkpoint
import ds_core.training.trainer
import pytest
import torch
from ds_core import CheckpointError, EarlyStopping, Trainer, UserError, save_checkpoint
from ds_core.errors import WriteError
from ds_core.training.checkpoint import describe_checkpoint
from safetensors import SafetensorError


def test_a_run_that_stopped_early_stays_stopped(small, tmp_path, capsys):
    options = {"evaluate": lambda model: {"loss": 1.0}, "evaluate_every": 1, "folder": tmp_path}
    small.make(callbacks=[EarlyStopping(patience=1)], **options).fit(small.Points(), 10)
    trainer = small.make(callbacks=[EarlyStopping(patience=1)], progress=True, **options)
    trainer.resume()
    assert "the run had ended early: loss has not become better" in capsys.readouterr().err
    trainer.fit(small.Points(), 10)
    assert trainer.step == 2


def test_checkpoints_with_evaluations_and_at_the_end(small, tmp_path, monkeypatch):
    saved = []
    original = ds_core.training.trainer.save_checkpoint
    monkeypatch.setattr(
        ds_core.training.trainer, "save_checkpoint", lambda *a, **k: (saved.append(k["step"]), original(*a, **k))
    )
    small.make(tmp_path / "a", evaluate=small.validation, evaluate_every=2).fit(small.Points(), 5)
    small.make(tmp_path / "b", checkpoint_every=3).fit(small.Points(), 7)
    small.make(tmp_path / "c").fit(small.Points(), 2)
    assert saved == [2, 4, 5, 3, 6, 7, 2]
    assert sorted(os.listdir(tmp_path / "a")) == ["checkpoint.safetensors", "log.jsonl"]


def test_resume_and_train_longer(small, tmp_path):
    whole = small.make(tmp_path / "whole", evaluate=small.validation, evaluate_every=2)
    whole.fit(small.Points(), 8)
    first = small.make(tmp_path / "parts", evaluate=small.validation, evaluate_every=2)
    first.fit(small.Points(), 4)
    second = small.make(tmp_path / "parts", evaluate=small.validation, evaluate_every=2)
    assert second.resume()
    assert second.step == 4
    assert second.fit(small.Points(), 8) is second.history
    assert torch.equal(small.weights(whole), small.weights(second))
    assert second.best == whole.best
    strip = [[{**r, "seconds": 0} for r in trainer.history.records] for trainer in (whole, second)]
    assert strip[0] == strip[1]
    third = small.make(tmp_path / "parts")
    third.resume()
    with pytest.raises(UserError, match="at step 8 already, beyond the 5 steps asked for"):
        third.fit(small.Points(), 5)


def test_resume_before_the_first_checkpoint(small, tmp_path, capsys):
    (tmp_path / "log.jsonl").write_text('{"kind": "train", "step": 1, "loss": 1.0}\n')
    trainer = small.make(tmp_path, progress=True)
    assert trainer.resume() is False
    assert "holds no checkpoint yet: starting from step 0" in capsys.readouterr().err
    trainer.fit(small.Points(), 2)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_resume_mistakes(small, tmp_path):
    with pytest.raises(ValueError, match="needs a folder"):
        small.make().resume()
    with pytest.raises(CheckpointError, match="there is no such file"):
        small.make().resume(tmp_path / "no")
    small.make(tmp_path).fit(small.Points(), 1)
    model = small.make().model
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    with pytest.raises(CheckpointError, match="has StepLR as schedule, this run ExponentialLR"):
        Trainer(model, small.Squares(), optimizer, schedule=schedule, folder=tmp_path).resume()


def refused(trainer, error, message, path=None):
    """`resume(path)` raises this, nothing has been loaded or written, and `fit` will not take it for resumed."""

    def state():
        weights = [tensor.tolist() for tensor in trainer.model.state_dict().values()]
        files = {path.name: path.read_bytes() for path in trainer.folder.iterdir()}
        return trainer.step, weights, torch.get_rng_state().tolist(), list(trainer.history.records), files

    before = state()
    with pytest.raises(error, match=message) as caught:
        trainer.resume(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"already holds a run|is no log"):
        trainer.fit(None, 9)
    assert state() == before


def test_a_refused_resume_changes_nothing(small, tmp_path):
    small.make(tmp_path, callbacks=[EarlyStopping()]).fit(small.Points(), 2)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"kind": "train", "step": 3}\n')  # killed after it: resuming would cut it off
    stopping = [EarlyStopping(), EarlyStopping()]
    message = "checkpoint.safetensors has no state for the callback EarlyStopping"
    refused(small.make(tmp_path, callbacks=stopping), CheckpointError, message)
    assert stopping[0].state_dict() == EarlyStopping().state_dict()

    save_checkpoint(tmp_path / "checkpoint.safetensors", model=small.make().model, step=2)
    refused(small.make(tmp_path), CheckpointError, "was not written by a Trainer: load_checkpoint reads it")


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_log_of_another_program_is_kept(small, tmp_path, checkpoint):
    if checkpoint:
        small.make(tmp_path).fit(small.Points(), 2)
    (tmp_path / "log.jsonl").write_text('{"time": 1}\n{"time": 2}\n')
    refused(small.make(tmp_path), UserError, r"log\.jsonl is no log of a training run")


def test_a_run_is_not_lost_to_one_from_elsewhere(small, tmp_path):
    small.make(tmp_path / "a").fit(small.Points(), 1)
    small.make(tmp_path / "b").fit(small.Points(), 3)
    message = r"cannot go on from .*a.checkpoint\.safetensors in .*b, which already holds a run"
    refused(small.make(tmp_path / "b"), UserError, message, tmp_path / "a" / "checkpoint.safetensors")


@pytest.mark.parametrize("spelling", ["b/checkpoint.safetensors", "link/checkpoint.safetensors", "b/../b/link"])
def test_the_folders_own_checkpoint_by_another_path(small, tmp_path, monkeypatch, spelling):
    small.make(tmp_path / "b").fit(small.Points(), 2)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "link").symlink_to("checkpoint.safetensors")
    monkeypatch.chdir(tmp_path)
    trainer = small.make(tmp_path / "b")
    assert trainer.resume(spelling)
    file = (tmp_path / "b" / "checkpoint.safetensors").stat().st_ino
    trainer.fit(small.Points(), 2)
    assert (tmp_path / "b" / "checkpoint.safetensors").stat().st_ino == file  # not written again, for it is there
    trainer.fit(small.Points(), 3)
    assert [record["step"] for record in trainer.history.training] == [1, 2, 3]
    assert describe_checkpoint(tmp_path / "b" / "checkpoint.safetensors").step == 3


def test_resume_from_elsewhere_into_a_new_folder(small, tmp_path, capsys):
    small.make(tmp_path / "a").fit(small.Points(), 3)
    trainer = small.make(tmp_path / "b", progress=True)
    trainer.resume(tmp_path / "a" / "checkpoint.safetensors")
    trainer.fit(small.Points(), 3)
    assert describe_checkpoint(tmp_path / "b" / "checkpoint.safetensors").step == 3
    assert "the log holds only 0 of the 3 steps before" in capsys.readouterr().err


def test_a_folder_with_a_run_is_not_overwritten(small, tmp_path):
    small.make(tmp_path).fit(small.Points(), 2)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(UserError, match="already holds a run: resume"):
        small.make(tmp_path).fit(small.Points(), 1)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_a_folder_that_cannot_be_made(small, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"cannot use .*run: Not a directory"):
        small.make(tmp_path / "file" / "run").fit(small.Points(), 1)


def test_leftovers_of_a_killed_write_are_removed(small, tmp_path):
    (tmp_path / ".checkpoint.safetensors.77.tmp").mkdir()
    (tmp_path / ".checkpoint.safetensors.77.tmp" / "checkpoint.safetensors").write_bytes(b"half")
    small.make(tmp_path).fit(small.Points(), 1)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.safetensors", "log.jsonl"]


def test_full_disk_at_a_checkpoint(small, tmp_path, monkeypatch):
    small.make(tmp_path).fit(small.Points(), 2)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(*arguments):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    trainer = small.make(tmp_path)
    trainer.resume()
    monkeypatch.setattr(ds_core.training.checkpoint, "save_file", full)
    with pytest.raises(WriteError, match=r"No space left on device.*; what it held before is still there"):
        trainer.fit(small.Points(), 4)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
