"""Files in IDX format, as MNIST comes in: plain or compressed with gzip.

The format (http://yann.lecun.com/exdb/mnist/): two bytes 0, a byte that says the type, a byte with the number of
dimensions, the size of each as a big-endian int32, then the numbers, big-endian, the last dimension fastest.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from ds_core.errors import UserError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"
_PIECE = 2**20
_MOST_DEFLATED = 1032  # no byte of deflate stands for more than so many


def read_idx(path: str | Path, dimensions: int | None = None) -> Tensor:
    """The numbers of an IDX file -> uint8, int8, int16, int32, float32 or float64.

    Args:
        path: the file; whether it is compressed is seen by its content.
        dimensions: how many it must have, 3 for images, 1 for labels; None: any number.

    Raises:
        UserError: a file that cannot be read, is damaged, cut off or too long, or is no such file.
    """
    path = Path(path)
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP
            file.seek(0)
            if not compressed:
                return _read(path, file, dimensions, length)
            with gzip.open(file) as unpacked:
                return _read(path, unpacked, dimensions, length * _MOST_DEFLATED)  # type: ignore[arg-type]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is a damaged gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _read(path: Path, file: IO[bytes], dimensions: int | None, most: int) -> Tensor:
    """The numbers in `file`, which holds `most` bytes at most."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise UserError(
            f"{path} is no IDX file: it begins with {magic.hex(' ') or 'nothing'}, "
            "expected 00 00, a type 08, 09 or 0b to 0e, and the number of dimensions"
        )
    if dimensions is not None and magic[3] != dimensions:
        raise UserError(f"{path} has {magic[3]} dimension(s), expected {dimensions}")
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise UserError(f"{path} is cut off: it ends within the sizes of its {magic[3]} dimensions")
    shape = struct.unpack(f">{magic[3]}i", header)
    dtype = np.dtype(_TYPES[magic[2]])
    if min(shape, default=0) < 0:
        raise UserError(f"{path} gives sizes {shape}, expected none below 0")
    size = math.prod(shape) * dtype.itemsize
    here = 4 + len(header)
    if size > most - here:  # before any memory is asked for
        raise UserError(f"{path} is cut off, or its sizes {shape} are wrong: {size} bytes of numbers do not fit in it")
    content = bytearray()
    while len(content) <= size and (piece := file.read(_PIECE)):
        content += piece
    if len(content) != size:
        given = f"{len(content)}" if len(content) < size else f"more than {size}"
        fault = "is cut off" if len(content) < size else "is too long"
        raise UserError(f"{path} {fault}: {given} bytes of numbers, expected {size} for sizes {shape}")
    if size == 0:
        return torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype.newbyteorder("="))).dtype)
    numbers = np.frombuffer(content, dtype).astype(dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(numbers.reshape(shape))
