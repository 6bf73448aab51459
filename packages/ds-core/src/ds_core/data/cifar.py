"""CIFAR-10: 50,000 and 10,000 colour images of 32 x 32 pixels in ten classes, in its binary version.

The format (https://www.cs.toronto.edu/~kriz/cifar.html): records of 3,073 bytes, each a label of 0 to 9 and then
the red, green and blue values of the 32 x 32 pixels, row by row. The Python version holds pickles, which can run
code when they are read: it is not read here.
"""

import gzip
import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ds_core.data.download import cache_folder, download
from ds_core.data.raw_dataset import Source
from ds_core.errors import UserError, one_line

URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
ARCHIVE = "cifar-10-binary.tar.gz"
UNPACKED = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
_FILES = (*TRAIN_FILES, TEST_FILE)
_PICKLES = ("cifar-10-python.tar.gz", "cifar-10-batches-py", "data_batch_1")

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SIZE = 32
_RECORD = 1 + 3 * _SIZE * _SIZE
_PIECE = 2**20
_MOST_DEFLATED = 1032  # no byte of deflate stands for more than so many
_DESCRIPTION = (
    "CIFAR-10: colour photographs of 32 x 32 pixels in ten classes, 50,000 to train and 10,000 to test. "
    'Krizhevsky, "Learning multiple layers of features from tiny images", 2009.'
)


def cifar10(folder: str | Path | None = None, progress: bool = True) -> Source:
    """The images (N, 3, 32, 32) uint8 of 0 to 255 and their classes (N,).

    Args:
        folder: where the six .bin files are, or cifar-10-batches-bin with them in it, or cifar-10-binary.tar.gz;
            or the path of that archive. Each file may hold any number of records. None: the archive is downloaded,
            once.
        progress: whether a bar is shown while it is.

    Raises:
        UserError: a file that is not in the folder, cannot be had, or is not as it should be.
    """
    if folder is None:
        contents = _of_archive(download(ARCHIVE, URLS, f"md5:{MD5}", cache_folder() / "cifar10", progress))
    else:
        contents = _of_folder(Path(folder))
    rows = [_records(where, content) for where, content in contents]
    train, (test,) = rows[: len(TRAIN_FILES)], rows[len(TRAIN_FILES) :]
    return Source(
        rows=(torch.cat([images for images, _ in train]), torch.cat([labels for _, labels in train])),
        test=test,
        task="classification",
        feature_names=(),
        class_names=CLASS_NAMES,
        description=_DESCRIPTION,
        largest=255,
    )


def _of_folder(path: Path) -> list[tuple[str, bytes]]:
    """Where each of the six files is, for messages, and what it holds."""
    if path.is_file():
        return _of_archive(path)
    for folder in (path, path / UNPACKED):
        there = [name for name in _FILES if (folder / name).exists()]
        if there:
            missing = [name for name in _FILES if name not in there]
            if missing:
                raise UserError(f"{folder} has no {', '.join(missing)}; expected it beside {there[0]}")
            return [(str(folder / name), _content(folder / name)) for name in _FILES]
    if (path / ARCHIVE).exists():
        return _of_archive(path / ARCHIVE)
    pickles = [name for name in _PICKLES if (path / name).exists()]
    note = f"; {pickles[0]} is of the Python version, which is not read" if pickles else ""
    raise UserError(f"{path} has no {ARCHIVE}; expected it, or {_FILES[0]} to {_FILES[-1]}{note}")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or one_line(error)}") from error


def _of_archive(path: Path) -> list[tuple[str, bytes]]:
    """The six files of the archive, read in memory: nothing is unpacked to the disk, whatever else is in it."""
    found: dict[str, bytes] = {}
    try:
        most = path.stat().st_size * _MOST_DEFLATED
        with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for member in archive:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder != UNPACKED or name not in _FILES:
                    continue
                if name in found or not member.isreg() or member.size > most:  # before any memory is asked for
                    raise UserError(f"{path} is a damaged archive: {member.name} in it is not as it should be")
                file = archive.extractfile(member)
                found[name] = b"" if file is None else file.read()
            while unpacked.read(_PIECE):  # to the end, where gzip's checksum is
                pass
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is a damaged archive: {one_line(error)}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    missing = [name for name in _FILES if name not in found]
    if missing:
        raise UserError(f"{path} has no {UNPACKED}/{missing[0]} in it; expected the binary version of CIFAR-10")
    return [(f"{name} in {path}", found[name]) for name in _FILES]


def _records(where: str, content: bytes) -> tuple[Tensor, Tensor]:
    """-> images (n, 3, 32, 32) uint8, labels (n,) int64."""
    if not content or len(content) % _RECORD:
        fault = "is cut off" if content else "is empty"
        raise UserError(f"{where} {fault}: {len(content)} bytes, expected whole records of {_RECORD}")
    records = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, _RECORD).copy())
    labels, pixels = records[:, 0].long(), records[:, 1:]
    wrong = labels >= len(CLASS_NAMES)
    if wrong.any():
        first = int(wrong.int().argmax())
        raise UserError(f"{where} holds the label {int(labels[first])} in record {first + 1}, expected 0 to 9")
    return pixels.reshape(-1, 3, _SIZE, _SIZE), labels
