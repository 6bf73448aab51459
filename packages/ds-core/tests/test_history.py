"""The history in memory, its log, and its plot."""

import builtins
import errno
import json
import math

import pytest
from ds_core import UserError
from ds_core.errors import MissingPackageError, WriteError
from ds_core.training.history import History, JsonLines, read_log


def test_records_by_kind(tmp_path):
    history = History(tmp_path / "log.jsonl")
    history.add("train", 1, loss=2.0)
    history.add("evaluation", 1, loss=math.nan)
    assert history.training == [{"kind": "train", "step": 1, "loss": 2.0}]
    assert len(history.evaluations) == 1
    # seen by a reader at once, and JSON that any reader takes
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"kind": "train", "step": 1, "loss": 2.0},
        {"kind": "evaluation", "step": 1, "loss": None},
    ]


def test_rewind_cuts_the_log_at_a_step(tmp_path):
    history = History(tmp_path / "log.jsonl")
    for step in range(1, 6):
        history.add("train", step, loss=float(step))
        history.add("evaluation", step, loss=0.0)
    history.rewind(3)
    assert [record["step"] for record in history.records] == [1, 1, 2, 2, 3, 3]
    history.add("train", 4, loss=9.0)
    history.close()
    assert list(read_log(tmp_path / "log.jsonl")) == history.records
    assert history.records[-1]["loss"] == 9.0


def test_rewind_without_a_log():
    history = History()
    for step in (1, 2, 3):
        history.add("train", step, loss=0.0)
    history.rewind(2)
    assert [record["step"] for record in history.records] == [1, 2]


@pytest.mark.parametrize("damage", [b'{"kind": "train", "st', b'{"kind": "train", "step": 3}', b"\xff\xfe\n", b"[]\n"])
def test_a_line_that_was_cut_off_ends_the_log(tmp_path, damage):
    path = tmp_path / "log.jsonl"
    whole = b'{"kind": "train", "step": 1, "loss": 1.0}\n'
    path.write_bytes(whole + damage)
    assert [record["step"] for record in read_log(path)] == [1]
    assert [record["step"] for record in JsonLines(path).rewind(9)] == [1]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("cut", [b"", b'{"kind": "train", "st'])
def test_a_log_whose_first_line_was_cut_off_is_ours(tmp_path, cut):
    path = tmp_path / "log.jsonl"
    path.write_bytes(cut)
    JsonLines(path).check()
    assert list(read_log(path)) == []
    assert JsonLines(path).rewind(9) == []
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "line", [b'{"level": "info"}', b'{"step": 1}', b'{"kind": "train", "step": null}', b"hello", b""]
)
def test_a_file_that_is_no_log_of_ours_is_refused_and_kept(tmp_path, line):
    path = tmp_path / "log.jsonl"
    whole = line + b'\n{"kind": "train", "step": 1}\n'
    path.write_bytes(whole)
    for action in (JsonLines(path).check, lambda: JsonLines(path).rewind(0), lambda: list(read_log(path))):
        with pytest.raises(
            UserError, match=r"log\.jsonl is no log of a training run: .* begins b'.*; move the file"
        ) as e:
            action()
        assert "\n" not in str(e.value)
    assert path.read_bytes() == whole


def test_rewind_of_a_log_that_is_not_there(tmp_path):
    assert JsonLines(tmp_path / "log.jsonl").rewind(5) == []
    assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.parametrize("fault", ["error", "half a line"])
def test_full_disk(tmp_path, fault):
    class Full:
        def write(self, line):
            if fault == "error":
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(line) // 2

    lines = JsonLines(tmp_path / "log.jsonl")
    lines._file = Full()
    with pytest.raises(WriteError, match=r"cannot write .*log\.jsonl: No space left on device$"):
        lines.append({"kind": "train", "step": 1})


def test_plot(tmp_path):
    history = History()
    history.plot(tmp_path / "empty.png")
    for step in range(1, 20):
        history.add("train", step, loss=1 / step)
    history.add("evaluation", 10, loss=0.2, accuracy=None)
    history.plot(tmp_path / "loss.png")
    history.plot(tmp_path / "accuracy.png", "accuracy")
    for name in ("empty.png", "loss.png", "accuracy.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "loss.png").stat().st_size > (tmp_path / "empty.png").stat().st_size
    with pytest.raises(WriteError, match="No such file or directory"):
        history.plot(tmp_path / "no" / "loss.png")


def test_plot_without_matplotlib_names_the_extra(tmp_path, monkeypatch):
    original = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r"needs matplotlib.*ds-core\[plot\]"):
        History().plot(tmp_path / "loss.png")


def test_training_without_plotting_imports_no_matplotlib(imported):
    assert {"ds_core.training.trainer", "ds_core.cli.main"} <= imported
    assert "matplotlib" not in imported
