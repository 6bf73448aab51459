"""Downloads from a server on this machine, which fails in every way that servers do."""

import hashlib
import importlib
import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from ds_core.data import DownloadError, cache_folder, download
from ds_core.errors import WriteError
from file_server import FileServer

module = importlib.import_module("ds_core.data.download")  # the package gives its function the name
CONTENT = bytes(range(256)) * 1200
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
NAME = "numbers.bin"
PART = f".{NAME}.part"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "_PIECE", 1000)  # what arrives of a piece that is cut off is lost
    found = FileServer()
    found.files |= {"a/numbers.bin": CONTENT, "b/numbers.bin": CONTENT}
    yield found
    found.close()


@pytest.fixture
def fetch(server, tmp_path):
    """Download from one or two mirrors -> the path."""

    def fetch(*mirrors, known_hash=MD5, folder=tmp_path / "cache"):
        urls = [server.url + mirror + "/" + NAME for mirror in mirrors or ("a", "b")]
        return download(NAME, urls, known_hash, folder, progress=False)

    return fetch


def left(tmp_path):
    """The files in the cache, but for locks."""
    return sorted(name for name in os.listdir(tmp_path / "cache") if not name.endswith(".lock"))


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_the_second_time_nothing_is_asked_for(server, fetch, tmp_path, kind):
    known = f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}"
    path = fetch(known_hash=known)
    assert path == tmp_path / "cache" / NAME
    assert path.read_bytes() == CONTENT
    assert server.requests == [("a/numbers.bin", None)]
    server.files.clear()
    assert fetch(known_hash=known) == path
    assert len(server.requests) == 1
    assert left(tmp_path) == [NAME]


def test_nothing_is_said_without_progress(fetch, capfd):
    level = logging.getLogger("pooch").level
    fetch()
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("pooch").level == level


def test_a_bar_on_stderr(server, tmp_path, capsys):
    download(NAME, [server.url + "a/numbers.bin"], MD5, tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "numbers.bin: 100%" in err
    assert "307k/307k" in err


def test_a_wrong_checksum(server, fetch, tmp_path):
    wrong = "md5:" + "0" * 32
    with pytest.raises(DownloadError) as error:
        fetch("a", known_hash=wrong)
    assert f"a/numbers.bin: the checksum is {MD5}, expected {wrong}; the file was removed" in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_status == 1
    assert left(tmp_path) == []
    assert len(server.requests) == 1


def test_another_mirror_where_one_has_another_file(server, fetch, tmp_path):
    server.files["a/numbers.bin"] = b"something else"
    assert fetch().read_bytes() == CONTENT
    assert server.requests == [("a/numbers.bin", None), ("b/numbers.bin", None)]
    assert left(tmp_path) == [NAME]


@pytest.mark.parametrize("status", [500, 404, 403])
def test_another_mirror_where_one_fails(server, fetch, status):
    server.faults["a/numbers.bin"] = [status] * 9
    assert fetch().read_bytes() == CONTENT
    assert server.requests == [("a/numbers.bin", None), ("b/numbers.bin", None)]


def test_a_download_that_is_cut_off_goes_on(server, fetch, tmp_path):
    server.faults["a/numbers.bin"] = [("cut", 200_999), ("cut", 50_000)]
    assert fetch().read_bytes() == CONTENT
    assert server.requests == [(f"a/{NAME}", None), (f"a/{NAME}", "bytes=200000-"), (f"a/{NAME}", "bytes=250000-")]
    assert left(tmp_path) == [NAME]


def test_it_goes_on_at_the_next_mirror(server, fetch):
    server.faults["a/numbers.bin"] = [("cut", 100_000), 500]
    assert fetch().read_bytes() == CONTENT
    assert server.requests[1:] == [(f"a/{NAME}", "bytes=100000-"), (f"b/{NAME}", "bytes=100000-")]


def test_it_goes_on_the_next_time(server, fetch, tmp_path):
    server.faults["a/numbers.bin"] = [("cut", 100_000), 500]
    with pytest.raises(DownloadError, match=r"a/numbers\.bin: HTTP 500 Internal Server Error"):
        fetch("a")
    assert left(tmp_path) == [PART]
    assert fetch("a").read_bytes() == CONTENT
    assert server.requests[-1] == (f"a/{NAME}", "bytes=100000-")
    assert left(tmp_path) == [NAME]


def test_a_server_that_cuts_off_again_and_again(server, fetch):
    server.faults["a/numbers.bin"] = [("cut", 1500)] * 99
    with pytest.raises(DownloadError, match=r"a/numbers\.bin: cut off 5 times: Connection broken"):
        fetch("a")
    assert [asked for _, asked in server.requests] == [None, *(f"bytes={n}000-" for n in (1, 2, 3, 4))]


def test_a_server_that_cuts_off_at_once(server, fetch):
    server.faults["a/numbers.bin"] = [("cut", 10)] * 99
    with pytest.raises(DownloadError, match=r"a/numbers\.bin: Connection broken"):
        fetch("a")
    assert len(server.requests) == 1


def test_a_server_without_parts_sends_all_again(server, fetch):
    server.ranges = False
    server.faults["a/numbers.bin"] = [("cut", 100_000)]
    assert fetch().read_bytes() == CONTENT
    assert server.requests == [(f"a/{NAME}", None), (f"a/{NAME}", "bytes=100000-")]


def test_a_server_that_sends_another_part(server, fetch):
    server.faults["a/numbers.bin"] = [("cut", 100_000), ("other range", 0)]
    assert fetch().read_bytes() == CONTENT
    assert server.requests[2] == (f"b/{NAME}", "bytes=100000-")
    server.faults["a/numbers.bin"] = [("cut", 100_000), ("other range", 0)]
    fetch().unlink()
    with pytest.raises(DownloadError, match="the server sends another part of the file"):
        fetch("a")


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more", b"something else", CONTENT[:1000] + b"!"])
def test_what_a_killed_process_left(server, fetch, tmp_path, part):
    """All of the file, or of another one: then it is fetched from the beginning."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / PART).write_bytes(part)
    assert fetch("a").read_bytes() == CONTENT
    asked = [asked for _, asked in server.requests]
    assert asked == [f"bytes={len(part)}-"] + [None] * (part != CONTENT)
    assert left(tmp_path) == [NAME]


def test_a_short_answer_is_cut_off_whatever_the_http_library_says(tmp_path, monkeypatch):
    """urllib3 before 2.0 does not compare what has arrived with the length that was announced."""

    class Answer:
        status_code, headers, response = 200, {"Content-Length": "10"}, None
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def raise_for_status(self):
            pass

        def iter_content(self, size):
            yield b"1234"

    monkeypatch.setattr(requests, "get", lambda url, **options: Answer())
    with pytest.raises(DownloadError, match="cut off after 4 of 10 bytes"):
        download("a", ["http://nowhere"], MD5, tmp_path, progress=False)


def test_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/{NAME}"
    with pytest.raises(DownloadError) as error:
        download(NAME, [url], MD5, tmp_path, progress=False)
    message = str(error.value)
    assert f"cannot download numbers.bin: {url}: " in message
    assert "refused" in message
    assert " object at " not in message
    assert f"Without a network put a copy at {tmp_path / NAME}, with the checksum {MD5}" in message
    assert "the one there now" not in message


def test_a_damaged_file_in_the_cache_is_fetched_again(server, fetch, tmp_path):
    path = fetch()
    path.write_bytes(b"damaged")
    assert fetch().read_bytes() == CONTENT
    path.write_bytes(b"damaged")
    server.files.clear()
    found = hashlib.md5(b"damaged").hexdigest()
    with pytest.raises(DownloadError, match=f"the one there now has md5:{found}"):
        fetch()
    assert path.read_bytes() == b"damaged"


def test_no_answer(server, fetch, monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT", 0.05)
    answer, release = server._answer, threading.Event()
    server._answer = lambda handler: (release.wait(10), answer(handler))
    try:
        with pytest.raises(DownloadError, match=r"no answer within 0\.05 seconds"):
            fetch("a")
    finally:
        release.set()


def test_a_cached_file_in_a_folder_that_cannot_be_written(fetch, tmp_path):
    path = fetch()
    for name in os.listdir(path.parent):
        if name != NAME:
            os.unlink(path.parent / name)
    path.parent.chmod(0o555)
    try:
        assert fetch() == path
        assert os.listdir(path.parent) == [NAME]  # nothing was written, not even a lock
    finally:
        path.parent.chmod(0o755)


def test_a_folder_that_cannot_be_written(fetch, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"cannot write numbers.bin into .*file/cache: .*DS_HOME names another"):
        fetch(folder=tmp_path / "file" / "cache")

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WriteError, match=r"numbers\.bin into .*cache: Permission denied"):
        fetch()


def test_one_of_several_downloads_and_the_others_wait(server, fetch):
    """Threads here; the lock is one of the file system, so that processes see it as well."""
    answer = server._answer

    def answer_when_all_have_begun(handler):
        time.sleep(0.2)
        answer(handler)

    server._answer = answer_when_all_have_begun
    with ThreadPoolExecutor(4) as pool:
        paths = {future.result() for future in [pool.submit(fetch, "a") for _ in range(4)]}
    assert len(paths) == 1
    assert paths.pop().read_bytes() == CONTENT
    assert server.requests == [("a/numbers.bin", None)]


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("DS_HOME", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("DS_HOME", "~/there")
    assert cache_folder() == Path.home() / "there"
    monkeypatch.delenv("DS_HOME")
    assert cache_folder().name == "deepscratch"


def test_the_cache_is_the_default(server, monkeypatch, tmp_path):
    monkeypatch.setenv("DS_HOME", str(tmp_path / "home"))
    assert download(NAME, [server.url + "a/" + NAME], MD5, progress=False) == tmp_path / "home" / NAME
