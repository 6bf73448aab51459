"""Files are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest
from ds_core.atomic_files import is_leftover, remove_leftovers, write_atomically
from ds_core.errors import WriteError


@pytest.mark.parametrize("content", [b"new", "new", lambda path: path.write_bytes(b"new")])
def test_replaces_the_whole_file_and_leaves_nothing_else(tmp_path, content):
    (tmp_path / "a").write_text("old content, longer")
    write_atomically(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_others_may_read_what_they_usually_may(tmp_path):
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "a", lambda path: (path.write_bytes(b"x"), path.chmod(0o600)))
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_full_disk_keeps_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")

    def write(path):
        path.write_bytes(b"ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        WriteError, match=r"cannot write .*a: No space left on device; what it held before is still"
    ) as e:
        write_atomically(tmp_path / "a", write)
    assert "\n" not in str(e.value)
    assert e.value.exit_status == 1
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_interrupted_write_keeps_the_old_file(tmp_path):
    (tmp_path / "a").write_text("old")

    def write(path):
        path.write_bytes(b"ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", write)
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_missing_folder(tmp_path):
    with pytest.raises(WriteError, match=r"No such file or directory$"):
        write_atomically(tmp_path / "no" / "a", b"x")


def test_the_content_is_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("ds_core.atomic_files.os.fsync", lambda handle: calls.append("fsync"))
    replace = os.replace
    monkeypatch.setattr("ds_core.atomic_files.os.replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_atomically(tmp_path / "a", b"x")
    assert calls == ["fsync", "replace", "fsync"]


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    names = [".a.safetensors.123.tmp", ".a.tmp", "a.123.tmp", "a", ".hidden"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / ".tmpX1").touch()
    assert [name for name in names if is_leftover(Path(name))] == names[:1]
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names[1:])
