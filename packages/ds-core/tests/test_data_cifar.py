"""CIFAR-10 in its binary version: small files of the format, as a folder, as an archive, and from a server."""

import gzip
import hashlib
import io
import os
import tarfile

import numpy as np
import pytest
import torch
from ds_core import UserError
from ds_core.data import DownloadError, cifar, load
from file_server import FileServer

COUNTS = dict.fromkeys(cifar.TRAIN_FILES, 8) | {cifar.TEST_FILE: 10}


def records(seed, count):
    """`count` records, (count, 3073) uint8, with all ten classes in turn."""
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3073), dtype=np.uint8)
    rows[:, 0] = np.arange(count) % 10
    return rows


ROWS = {name: records(seed, count) for seed, (name, count) in enumerate(COUNTS.items())}
FILES = {name: rows.tobytes() for name, rows in ROWS.items()}


def archive(files=FILES, folder="cifar-10-batches-bin/", more=()):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in [(folder + name, content) for name, content in files.items()]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return file.getvalue()


def write(folder, files=FILES):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def check(data):
    """Against the format as its page describes it, pixel by pixel."""
    images, labels = data.test.tensors
    rows = ROWS[cifar.TEST_FILE]
    assert (images.shape, images.dtype) == ((10, 3, 32, 32), torch.uint8)
    assert labels.tolist() == rows[:, 0].tolist()
    for channel, row, column in [(0, 0, 0), (0, 0, 31), (1, 5, 2), (2, 31, 31)]:
        assert images[:, channel, row, column].tolist() == rows[:, 1 + 1024 * channel + 32 * row + column].tolist()
    trained = [*zip(*data.train.tensors, strict=True), *zip(*data.validation.tensors, strict=True)]
    found = sorted(bytes([label]) + image.numpy().tobytes() for image, label in trained)
    assert found == sorted(row.tobytes() for name in cifar.TRAIN_FILES for row in ROWS[name])
    assert data.class_names[3] == "cat"
    assert len(data.class_names) == 10
    assert data.task == "classification"


@pytest.mark.parametrize("form", ["files", "unpacked", "archive", "archive itself", "with dots"])
def test_a_folder_of_the_users(tmp_path, form):
    folder = tmp_path
    if form in ("files", "unpacked"):
        write(tmp_path / ("" if form == "files" else "cifar-10-batches-bin"))
    else:
        content = archive(folder="./cifar-10-batches-bin/" if form == "with dots" else "cifar-10-batches-bin/")
        (tmp_path / "cifar-10-binary.tar.gz").write_bytes(content)
    if form == "archive itself":
        folder = tmp_path / "cifar-10-binary.tar.gz"
    data = load("cifar10", folder=folder, validation=0.25, dtype=torch.uint8)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [30, 10, 10]
    check(data)
    scaled = load("cifar10", folder=folder, validation=0.25)
    assert torch.equal(scaled.test.tensors[0], data.test.tensors[0] / 255)


def test_files_may_differ_in_length(tmp_path):
    files = {name: records(9, 1 + number).tobytes() for number, name in enumerate(FILES)}
    data = load("cifar10", folder=write(tmp_path, files), validation=0)
    assert (len(data.train), len(data.test)) == (15, 6)


NAME = cifar.TRAIN_FILES[2]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FILES[NAME][:-1], "is cut off: 24583 bytes, expected whole records of 3073"),
        (FILES[NAME] + b"\0", "is cut off: 24585 bytes"),
        (b"", "is empty: 0 bytes"),
        (FILES[NAME][:3073] + b"\x0a" + FILES[NAME][3074:], "holds the label 10 in record 2, expected 0 to 9"),
        (b"\xff" + FILES[NAME][1:], "holds the label 255 in record 1"),
    ],
)
def test_a_file_that_is_not_as_it_should_be(tmp_path, content, message, packed):
    files = {**FILES, NAME: content}
    if packed:
        (tmp_path / cifar.ARCHIVE).write_bytes(archive(files))
    else:
        write(tmp_path, files)
    with pytest.raises(UserError, match=message) as error:
        load("cifar10", folder=tmp_path)
    assert NAME in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def member(name, kind=tarfile.REGTYPE, size=0, link=""):
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, link
    return found


def huge():
    """An archive that says of its first file that it has a terabyte."""
    header = member(f"{cifar.UNPACKED}/{NAME}", size=10**12).tobuf(tarfile.GNU_FORMAT)
    return gzip.compress(header + bytes(4096))


WITHOUT = {name: content for name, content in FILES.items() if name != NAME}
LINK = member(f"{cifar.UNPACKED}/{NAME}", tarfile.SYMTYPE, link="/etc/passwd")
TWICE = member(f"{cifar.UNPACKED}/{cifar.TRAIN_FILES[0]}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "is a damaged archive"),
        (b"", "is a damaged archive"),
        (archive()[:-4000], "is a damaged archive"),
        (archive()[:5000] + bytes(50) + archive()[5050:], "is a damaged archive"),
        (archive(WITHOUT), r"has no cifar-10-batches-bin/data_batch_3\.bin in it; expected the binary version"),
        (archive(folder="cifar-10-batches-py/"), r"has no cifar-10-batches-bin/data_batch_1\.bin in it"),
        (archive(folder="/cifar-10-batches-bin/"), r"has no cifar-10-batches-bin/data_batch_1\.bin in it"),
        (archive(folder="../cifar-10-batches-bin/"), r"has no cifar-10-batches-bin/data_batch_1\.bin in it"),
        (archive(WITHOUT, more=[LINK]), r"data_batch_3\.bin in it is not as it should be"),
        (archive(WITHOUT, more=[TWICE]), r"data_batch_1\.bin in it is not as it should be"),
        (huge(), r"data_batch_3\.bin in it is not as it should be"),
    ],
)
def test_an_archive_that_is_not_as_it_should_be(tmp_path, content, message):
    path = tmp_path / cifar.ARCHIVE
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load("cifar10", folder=tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == [cifar.ARCHIVE]  # nothing was unpacked


def test_what_else_an_archive_holds_is_not_looked_at(tmp_path):
    more = [member("../../outside", size=0), member("/etc/passwd", tarfile.SYMTYPE, link="/etc/shadow")]
    (tmp_path / cifar.ARCHIVE).write_bytes(archive({"batches.meta.txt": b"airplane\n", **FILES}, more=more))
    check(load("cifar10", folder=tmp_path, dtype=torch.uint8))
    assert os.listdir(tmp_path) == [cifar.ARCHIVE]


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(UserError, match=r"has no cifar-10-binary\.tar\.gz; expected it, or data_batch_1\.bin to test"):
        load("cifar10", folder=tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}q")
    with pytest.raises(UserError, match=r"; data_batch_1 is of the Python version, which is not read$"):
        load("cifar10", folder=tmp_path)
    with pytest.raises(UserError, match=r"has no data_batch_3\.bin; expected it beside data_batch_1\.bin"):
        load("cifar10", folder=write(tmp_path, WITHOUT))
    (tmp_path / NAME).mkdir()
    with pytest.raises(UserError, match=r"cannot read .*data_batch_3\.bin: Is a directory"):
        load("cifar10", folder=tmp_path)


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DS_HOME", str(tmp_path / "home"))
    found = FileServer()
    yield found
    found.close()


def test_it_is_downloaded_once(server, monkeypatch, tmp_path):
    content = archive()
    server.files["cifar-10-binary.tar.gz"] = content
    server.faults["cifar-10-binary.tar.gz"] = [("cut", 70000)]  # and continued
    monkeypatch.setattr(cifar, "URLS", (server.url + "cifar-10-binary.tar.gz",))
    monkeypatch.setattr(cifar, "MD5", hashlib.md5(content).hexdigest())
    for _ in range(2):
        check(load("cifar10", validation=0.25, dtype=torch.uint8, progress=False))
        assert len(server.requests) == 2
    assert server.requests[1][1] is not None
    assert (tmp_path / "home" / "cifar10" / "cifar-10-binary.tar.gz").exists()


def test_another_file_than_the_published_one_is_refused(server, monkeypatch):
    server.files["cifar-10-binary.tar.gz"] = archive()
    monkeypatch.setattr(cifar, "URLS", (server.url + "cifar-10-binary.tar.gz",))
    with pytest.raises(DownloadError, match=f"expected md5:{cifar.MD5}"):
        load("cifar10", progress=False)
