"""IDX files for the tests of their readers."""

import struct

import numpy as np

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx(array, code):
    """The bytes of an IDX file."""
    array = np.asarray(array)
    header = struct.pack(f">4B{array.ndim}i", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(TYPES[code]).tobytes()
