"""The best checkpoint, and every n-th."""

import pytest
import torch
from ds_core import KeepBest, KeepEvery, UserError, load_weights


def script(*values):
    left = list(values)
    return lambda model: {"loss": 0.0, "accuracy": left.pop(0)}


def test_the_best_is_kept(small, tmp_path):
    options = {"evaluate": script(0.5, 0.9, 0.7), "evaluate_every": 2}
    best = KeepBest("accuracy", largest=True)
    trainer = small.make(tmp_path / "a", callbacks=[best], **options)
    trainer.fit(small.Points(), 6)
    twin = small.make(evaluate=script(0.5, 0.9), evaluate_every=2)
    twin.fit(small.Points(), 4)
    load_weights(tmp_path / "a" / "best.safetensors", trainer.model)
    torch.testing.assert_close(small.weights(trainer), small.weights(twin), rtol=0, atol=0)

    other = small.make(tmp_path / "b", callbacks=[KeepBest("accuracy", largest=True)], evaluate=script(0.1))
    other.resume(tmp_path / "a" / "best.safetensors")
    assert other.step == 4
    other.fit(small.Points(), 6)
    assert not (tmp_path / "b" / "best.safetensors").exists()  # it knows of the 0.9
    assert (tmp_path / "a" / "checkpoint.safetensors").exists()


def test_other_files_are_written_with_the_best(small, tmp_path):
    written = []

    def write(trainer):
        written.append((trainer.step, (tmp_path / "best.safetensors").exists()))

    options = {"evaluate": script(0.5, 0.9, 0.7), "evaluate_every": 2}
    best = KeepBest("accuracy", largest=True, write=write)
    small.make(tmp_path, callbacks=[best], **options).fit(small.Points(), 6)
    assert written == [(2, True), (4, True)]


def test_every_nth_is_kept_beside_the_last(small, tmp_path):
    trainer = small.make(tmp_path, callbacks=[KeepEvery(3, at_most=2)])
    trainer.fit(small.Points(), 10)
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert names == ["checkpoint.safetensors", "step-000006.safetensors", "step-000009.safetensors"]
    twin = small.make(tmp_path / "twin", callbacks=[KeepEvery(3)])
    twin.resume(tmp_path / "step-000006.safetensors")
    twin.fit(small.Points(), 10)
    torch.testing.assert_close(small.weights(twin), small.weights(trainer), rtol=0, atol=0)
    assert (tmp_path / "twin" / "step-000009.safetensors").exists()


def test_mistakes(small):
    with pytest.raises(ValueError, match="KeepEvery: given steps=0"):
        KeepEvery(0)
    with pytest.raises(ValueError, match="at_most=0"):
        KeepEvery(1, at_most=0)
    with pytest.raises(UserError, match="KeepEvery needs a Trainer with a folder"):
        small.make(callbacks=[KeepEvery(1)]).fit(small.Points(), 1)
    with pytest.raises(ValueError, match="KeepBest: evaluate gave loss, expected f1"):
        small.make(callbacks=[KeepBest("f1")], evaluate=lambda model: {"loss": 1.0}).fit(small.Points(), 1)
