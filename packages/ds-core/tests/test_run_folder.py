"""The run folder: made once, taken up again, never mixed up."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from ds_core import UserError
from ds_core.errors import WriteError
from ds_core.options import option
from ds_core.training.run_folder import (
    open_run_folder,
    read_run_folder,
    resumed_options,
    store_options,
)
from ds_core.training.run_options import RunOptions
from ds_core.training.versions import installed_versions


@dataclass
class Options(RunOptions):
    out: Path = option(Path("runs/tiny"), "the run folder", may_change=True)
    steps: int = option(10, "how many", may_change=True)
    width: int = option(4, "how wide")
    text: Path | None = option(None, "a file")


def one_line(message, action, status=2):
    with pytest.raises(UserError, match=message) as error:
        action()
    assert "\n" not in str(error.value)
    assert error.value.exit_status == status


def test_new_folder_holds_recipe_and_options(tmp_path):
    folder = open_run_folder("tiny", Options(out=tmp_path / "a" / "b", width=5))
    assert folder == tmp_path / "a" / "b"
    record = read_run_folder(folder)
    assert record.recipe == "tiny"
    shared = {"seed": 0, "device": "auto", "threads": None, "plots": True}
    assert record.options == {**shared, "steps": 10, "width": 5, "text": None}
    assert record.versions == installed_versions()
    assert {"ds-core", "torch"} <= set(record.versions)


def test_an_empty_folder_will_do_and_so_will_one_where_a_write_was_cut_off(tmp_path):
    (tmp_path / ".recipe.json.42.tmp").mkdir()
    open_run_folder("tiny", Options(out=tmp_path))
    assert os.listdir(tmp_path) == ["recipe.json"]


def test_a_run_is_not_overwritten_unless_asked(tmp_path):
    open_run_folder("tiny", Options(out=tmp_path))
    for name in ("checkpoint.safetensors", "log.jsonl", "notes.txt"):
        (tmp_path / name).write_text("precious")
    one_line(
        "already holds a run of tiny: --resume continues it", lambda: open_run_folder("tiny", Options(out=tmp_path))
    )
    assert len(os.listdir(tmp_path)) == 4
    open_run_folder("other", Options(out=tmp_path, overwrite=True))
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "recipe.json"]
    assert read_run_folder(tmp_path).recipe == "other"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_never_used(tmp_path, overwrite):
    for name in "abcd":
        (tmp_path / name).touch()
    one_line(
        r"is not empty and holds no run \(a, b, c, \.\.\.\): give another folder",
        lambda: open_run_folder("tiny", Options(out=tmp_path, overwrite=overwrite)),
    )
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c", "d"]


def test_folders_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        one_line("cannot use .* as run folder", lambda name=name: open_run_folder("tiny", Options(out=tmp_path / name)))

    def forbidden(path, mode=0o777, parents=False, exist_ok=False):
        if path.name != "new":
            raise PermissionError(13, "Permission denied")
        os.mkdir(path)

    monkeypatch.setattr(Path, "mkdir", forbidden)  # chmod would not stop root
    one_line("cannot use .*: Permission denied", lambda: open_run_folder("tiny", Options(out=tmp_path / "new")))


def test_full_disk(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ds_core.atomic_files.os.fsync", full)
    with pytest.raises(WriteError, match=r"cannot write .*recipe\.json: No space left on device"):
        open_run_folder("tiny", Options(out=tmp_path))


def test_contradictory_options():
    one_line("--resume and --overwrite contradict each other", lambda: Options(resume=True, overwrite=True))


def test_resume_takes_the_options_the_run_began_with(tmp_path):
    open_run_folder("tiny", Options(out=tmp_path, width=7, steps=20, text=Path("a.txt")))
    options = resumed_options(Options, tmp_path, {"resume": True})
    assert options == Options(out=tmp_path, resume=True, width=7, steps=20, text=Path("a.txt").absolute())
    # the same again, and what may change
    options = resumed_options(Options, tmp_path, {"width": 7, "text": Path("a.txt"), "steps": 30})
    assert (options.steps, options.width) == (30, 7)
    open_run_folder("tiny", options)
    assert read_run_folder(tmp_path).options["steps"] == 20  # the checkpoint may still refuse them
    store_options("tiny", options)
    assert read_run_folder(tmp_path).options["steps"] == 30


@dataclass
class Sequences(RunOptions):
    names: tuple[str, ...] = option(("a", "b"), "a tuple")
    files: list[Path] = option([Path("x.txt")], "paths")
    sizes: tuple[int, ...] | None = option(None, "a tuple or nothing")


def test_resume_with_the_same_sequences_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = open_run_folder("tiny", Sequences(out=tmp_path / "run", sizes=(1, 2)))
    # as argparse gives them: lists
    given = {"names": ["a", "b"], "files": [Path("x.txt")], "sizes": [1, 2]}
    options = resumed_options(Sequences, folder, given)
    assert (options.names, options.sizes) == (("a", "b"), (1, 2))
    open_run_folder("tiny", options)
    may = r" \(a resumed run may change --device, --plots\)$"
    message = r"--names: given \['b', 'a'\], the run began with \['a', 'b'\]" + may
    one_line(message, lambda: resumed_options(Sequences, folder, {**given, "names": ["b", "a"]}))
    message = r"--files: given \['.*y\.txt'\], the run began with \['.*x\.txt'\]" + may
    one_line(
        message,
        lambda: open_run_folder("tiny", Sequences(out=folder, files=[Path("y.txt")], sizes=(1, 2), resume=True)),
    )


def test_resume_with_other_options(tmp_path):
    open_run_folder("tiny", Options(out=tmp_path, width=7))
    may = r" \(a resumed run may change --device, --plots, --steps\)"
    message = r"cannot resume .*: --width: given 8, the run began with 7" + may
    one_line(message, lambda: resumed_options(Options, tmp_path, {"width": 8}))
    one_line(message, lambda: open_run_folder("tiny", Options(out=tmp_path, width=8, resume=True)))
    one_line("holds a run of tiny, not of other", lambda: open_run_folder("other", Options(out=tmp_path, resume=True)))
    assert read_run_folder(tmp_path).options["width"] == 7


def test_resume_where_there_is_nothing(tmp_path):
    one_line("no run folder .*no: there is no such folder", lambda: resumed_options(Options, tmp_path / "no", {}))
    one_line(r"is not a run folder: it holds no recipe\.json", lambda: resumed_options(Options, tmp_path, {}))
    one_line("is not a run folder", lambda: open_run_folder("tiny", Options(out=tmp_path, resume=True)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("\udcff", "cannot be read"),
        ("[]", "was not written by ds"),
        ('{"format": "else"}', "was not written by ds"),
        ('{"format": "ds-run", "version": 2}', "newer version .format 2.: upgrade"),
        ('{"format": "ds-run", "version": 1, "recipe": "tiny"}', "is damaged"),
    ],
)
def test_damaged_record(tmp_path, content, message):
    (tmp_path / "recipe.json").write_text(content, errors="surrogateescape")
    one_line(message, lambda: read_run_folder(tmp_path))


def test_options_of_another_version(tmp_path):
    open_run_folder("tiny", Options(out=tmp_path))
    record = json.loads((tmp_path / "recipe.json").read_text())
    record["options"]["wdth"] = 3
    (tmp_path / "recipe.json").write_text(json.dumps(record))
    one_line(
        "unknown option wdth; did you mean width.*was started with ds-core",
        lambda: resumed_options(Options, tmp_path, {}),
    )


def test_the_files_of_a_run_are_deleted_with_it(tmp_path):
    open_run_folder("tiny", Options(out=tmp_path), ["model.txt", "curve.png"])
    assert read_run_folder(tmp_path).files == ["model.txt", "curve.png"]
    for name in ("model.txt", "curve.png", "notes.txt"):
        (tmp_path / name).touch()
    open_run_folder("other", Options(out=tmp_path, overwrite=True), ["weights.txt"])
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "recipe.json"]
    assert read_run_folder(tmp_path).files == ["weights.txt"]


@pytest.mark.parametrize("files", ["model.txt", ["../precious"], ["a/b"], [3]])
def test_nothing_outside_the_folder_is_a_file_of_the_run(tmp_path, files):
    open_run_folder("tiny", Options(out=tmp_path / "run"))
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    (tmp_path / "run" / "recipe.json").write_text(json.dumps({**record, "files": files}))
    one_line("is damaged: expected files to be", lambda: read_run_folder(tmp_path / "run"))


def test_a_run_of_a_version_that_named_no_files(tmp_path):
    open_run_folder("tiny", Options(out=tmp_path))
    record = json.loads((tmp_path / "recipe.json").read_text())
    del record["files"]
    (tmp_path / "recipe.json").write_text(json.dumps(record))
    assert read_run_folder(tmp_path).files == []
