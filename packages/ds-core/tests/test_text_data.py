import hashlib

import pytest
from ds_core import UserError
from ds_core.text import text_data


def test_standard_library_is_source_and_prose_the_same_each_time():
    text = text_data.standard_library_text(1_500_000)
    assert text == text_data.standard_library_text(1_500_000)
    assert text.isascii()
    assert 1_400_000 < len(text) < 1_510_000
    assert "def __init__(self" in text
    assert "The following" in text


def test_python_without_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(text_data, "_language_reference", dict)
    monkeypatch.setattr(text_data.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(UserError, match="--text FILE"):
        text_data.standard_library_text()


def test_left_out_files(tmp_path, monkeypatch):
    monkeypatch.setattr(text_data, "_language_reference", dict)
    monkeypatch.setattr(text_data.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    kept = {"a.py": "alpha", "package/b.py": "beta"}
    left_out = {"test/c.py": "gamma", "site-packages/d.py": "delta", "e.py": "é", "f.txt": "phi", "empty.py": " "}
    for name, text in {**kept, **left_out}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert set(text_data.standard_library_text().split("\n\n")) == set(kept.values())


def test_which_files_fit_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    monkeypatch.setattr(text_data, "_language_reference", dict)
    monkeypatch.setattr(text_data.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    names = [f"{letter}.py" for letter in "abcdefgh"]
    for name in names:
        (tmp_path / name).write_text(name)
    first = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:3]
    assert text_data.standard_library_text(14).split("\n\n") == first


def test_read_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffnaïve\r\n".encode())
    assert text_data.read_text(path) == "naïve\r\n"


def test_bad_text_files(tmp_path):
    path = tmp_path / "text.txt"
    for data, message in [(b"", "is empty"), (b"ab\ncd\xff", "not UTF-8: byte 0xff at offset 5, line 2")]:
        path.write_bytes(data)
        with pytest.raises(UserError, match=message):
            text_data.read_text(path)
    with pytest.raises(UserError, match="cannot read the text"):
        text_data.read_text(tmp_path / "nothing")
    with pytest.raises(UserError, match="cannot read the text"):
        text_data.read_text(tmp_path)
