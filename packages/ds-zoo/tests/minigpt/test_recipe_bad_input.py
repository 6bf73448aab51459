"""What the recipe `minigpt` cannot use, and what goes wrong on its way: one clear line each, and nothing lost."""

import json

import pytest
import torch
from ds_core.testing.recipe import damaged_checkpoints
from ds_core.training.run_folder import CHECKPOINT_FILE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"ab \xff", "is not UTF-8: byte 0xff at offset 3, line 1"),
        (b"to be or not", "is too short: its validation part has 2 tokens, expected at least 9"),
        (b"t", "is too short"),
    ],
)
def test_text_that_cannot_be_learned(data, message, run, text, tmp_path, complaint):
    text.write_bytes(data)
    assert message in complaint(run())
    assert not (tmp_path / "out").exists()


def test_text_that_is_not_there(run, text, complaint):
    text.unlink()
    assert "cannot read the text" in complaint(run())


@pytest.mark.parametrize("kind", ["truncated", "empty", "corrupt", "noise", "newer", "foreign"])
def test_damaged_checkpoints(kind, ds, trained, complaint):
    path = trained / CHECKPOINT_FILE
    content = damaged_checkpoints(path.read_bytes())[kind]
    path.write_bytes(content)
    assert CHECKPOINT_FILE in complaint(ds("train", "minigpt", "--out", trained, "--resume", "--steps", 6))
    assert CHECKPOINT_FILE in complaint(ds("generate", trained, "--weights", "last"))
    assert path.read_bytes() == content
    assert ds("generate", trained, "--tokens", 3)[0] == 0  # the best weights are another file


def test_a_checkpoint_of_another_model(run, ds, trained, tmp_path, complaint):
    assert run(embed_dim=4)[0] == 0
    (trained / CHECKPOINT_FILE).write_bytes((tmp_path / "out" / CHECKPOINT_FILE).read_bytes())
    assert "another model" in complaint(ds("train", "minigpt", "--out", trained, "--resume", "--steps", 6))


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        (["--prompt", "to bé"], 2, "--prompt has a character the tokenizer never saw: 'é' (U+00E9) at position 4"),
        (["--prompt", ""], 2, "--prompt is empty"),
        (["--block-size", "9"], 2, "--block-size 9 is beyond the 8 tokens"),
        (["--temperature", "-1"], 2, "--temperature"),
        (["--top-k", "0"], 2, "--top-k"),
        (["--top-p", "0"], 2, "--top-p"),
        (["--top-p", "1.1"], 2, "--top-p"),
        (["--tokens", "-1"], 2, "--tokens"),
    ],
)
def test_generating_what_cannot_be(more, status, message, ds, trained, complaint):
    result = ds("generate", trained, *more)
    assert message in complaint(result)
    assert result[0] == status
    assert result[1] == ""


def test_generating_from_damaged_folders(ds, trained, complaint):
    for name in ("model.safetensors", "tokenizer.json"):
        whole = (trained / name).read_bytes()
        for content in (whole[:-9], whole[:-200] + bytes(byte ^ 255 for byte in whole[-200:])):
            (trained / name).write_bytes(content)
            assert name in complaint(ds("generate", trained))
        (trained / name).unlink()
        assert name in complaint(ds("generate", trained))
        (trained / name).write_bytes(whole)
    (trained / "tokenizer.json").write_text(json.dumps({"type": "characters", "characters": "ab\n"}))
    assert "tokenizer.json" in complaint(ds("generate", trained))


def test_before_the_first_evaluation_there_are_only_the_last_weights(ds, trained, complaint):
    (trained / "config.json").unlink()
    (trained / "model.safetensors").unlink()
    assert "no evaluation yet" in complaint(ds("generate", trained, "--tokens", 3))
    assert ds("generate", trained, "--tokens", 3, "--weights", "last")[0] == 0


def test_a_loss_that_turns_nan_names_the_layer_and_keeps_the_checkpoint(run, tmp_path, complaint, trained_weights):
    result = run(lr=1e11, warmup_steps=0, steps=50, checkpoint_every=1)
    assert result[0] == 1
    line = complaint(result)
    assert "the loss is nan" in line
    assert "the first layer whose output is not finite is blocks.0." in line
    assert all(torch.isfinite(tensor).all() for tensor in trained_weights(tmp_path / "out").values())
