"""`ds translate` given what cannot be translated, read or written: one clear line each, and nothing lost."""

import io
import json

import pytest
from ds_core.recipes.translation.translator import Translator
from ds_core.training.run_folder import CHECKPOINT_FILE


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--text", ""], "--text is empty: give a sentence"),
        (["--text", " \n "], "--text is empty: give a sentence"),
        (["--text", "half \udc80 of one"], "a sentence has no UTF-8 form: '\\udc80' at position 5"),
        (["--text", "x", "--input", "file"], "--text and --input contradict each other"),
        (["--text", "x", "--beam-size", "0"], "--beam-size"),
        (["--text", "x", "--max-length", "0"], "--max-length"),
        (["--text", "x", "--batch-size", "0"], "--batch-size"),
        (["--text", "x", "--length-penalty", "-1"], "--length-penalty"),
        (["--text", "x", "--length-penalty", "inf"], "--length-penalty"),
        (["--text", "x", "--weights", "bests"], "did you mean best?"),
        (["--text", "x", "--device", "abacus"], "--device abacus cannot be used here"),
    ],
)
def test_translating_what_cannot_be(more, message, ds, trained, complaint):
    result = ds("translate", trained, *more)
    assert message in complaint(result)
    assert result[:2] == (2, "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no sentence to translate"),
        (b"\n", "holds no sentence to translate"),
        (b"one\n\ntwo\n", "line 2 is empty, expected a sentence in each line"),
        (b"one\ntwo\n\n", "line 3 is empty"),
    ],
)
def test_lines_that_cannot_be_translated(data, message, ds, trained, tmp_path, complaint, monkeypatch):
    source, target = tmp_path / "source.txt", tmp_path / "target.txt"
    source.write_bytes(data)
    result = ds("translate", trained, "--input", source, "--output", target)
    assert f"{source}" in complaint(result)
    assert message in complaint(result)
    assert not target.exists()
    monkeypatch.setattr("sys.stdin", io.StringIO(data.decode()))
    assert "standard input" in complaint(ds("translate", trained))


def test_input_that_is_not_text(ds, trained, tmp_path, complaint, monkeypatch):
    source = tmp_path / "source.txt"
    source.write_bytes(b"one\ntw\xff\n")
    assert "source.txt is not UTF-8: byte 0xff in line 2" in complaint(ds("translate", trained, "--input", source))
    assert "--input: cannot read" in complaint(ds("translate", trained, "--input", tmp_path))
    assert "--input: cannot read" in complaint(ds("translate", trained, "--input", tmp_path / "nothing"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ntw\xff\n"), "utf-8"))
    assert "standard input is not UTF-8: byte 0xff in line 2" in complaint(ds("translate", trained))


def test_output_that_cannot_be_written(ds, trained, tmp_path, complaint, monkeypatch):
    monkeypatch.setattr(Translator, "translate", lambda *_, **__: pytest.fail("translated, and then lost"))
    for flag in ("--output", "--maps"):
        command = ("translate", trained, "--text", "the cat", flag)
        assert f"{flag}: {tmp_path} is a folder, expected the name of a file" in complaint(ds(*command, tmp_path))
        nowhere = tmp_path / "nowhere" / "file"
        assert f"{flag}: cannot write {nowhere}: there is no folder" in complaint(ds(*command, nowhere))


def test_no_weights_yet(ds, trained, complaint):
    use = ("translate", trained, "--text", "the cat")
    (trained / "final.safetensors").unlink()
    line = complaint(ds(*use))
    assert "no final.safetensors, the training has not come so far; there is --weights best and --weights last" in line
    (trained / "best.safetensors").unlink()
    assert line.replace(" --weights best and", "") == complaint(ds(*use))
    (trained / CHECKPOINT_FILE).unlink()
    assert "no checkpoint.safetensors" in complaint(ds(*use, "--weights", "last"))
    assert "there are no weights yet" in complaint(ds(*use))


def test_folders_of_nothing_and_of_another_recipe(ds, trained, tmp_path, complaint):
    assert "no run to translate with" in complaint(ds("translate", tmp_path / "nothing", "--text", "x"))
    record = json.loads((trained / "recipe.json").read_text())
    (trained / "recipe.json").write_text(json.dumps({**record, "recipe": "perceptron"}))
    assert "holds a run of perceptron, which has no ds translate" in complaint(ds("translate", trained, "--text", "x"))
