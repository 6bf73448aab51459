"""IDX files: every type, and everything that can be wrong with one."""

import gzip
import tracemalloc

import numpy as np
import pytest
import torch
from ds_core import UserError
from ds_core.data import read_idx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from idx_files import TYPES, idx

LABELS = idx([3, 1, 2], 0x08)


@pytest.fixture
def written(tmp_path):
    def write(content, name="labels"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("code", "dtype"),
    list(zip(TYPES, [torch.uint8, torch.int8, torch.int16, torch.int32, torch.float32, torch.float64], strict=True)),
)
def test_every_type(written, code, dtype, compressed):
    values = [[1, 2, 100], [-3 if code != 0x08 else 255, 0, 127]]
    if code >= 0x0B:
        values[0][0] = 300 if code < 0x0D else 0.5
    content = idx(values, code)
    found = read_idx(written(gzip.compress(content) if compressed else content), 2)
    assert found.dtype == dtype
    assert found.tolist() == values
    found += 1  # writable, and its own


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.lists(st.integers(0, 4), max_size=4), code=st.sampled_from(list(TYPES)), compressed=st.booleans())
def test_any_shape(written, shape, code, compressed):
    array = np.random.default_rng(0).integers(0, 100, shape)
    content = idx(array, code)
    found = read_idx(written(gzip.compress(content) if compressed else content), len(shape))
    assert found.shape == tuple(shape)
    assert found.tolist() == array.tolist()
    assert read_idx(written(content)).dtype == found.dtype


def test_bytes_as_published(written):
    """Two images of 2 x 3, byte by byte as the format's page says."""
    content = bytes.fromhex("00000803 00000002 00000002 00000003") + bytes(range(12))
    assert read_idx(written(content), 3).tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file: it begins with nothing, expected 00 00"),
        (LABELS[:3], "is no IDX file: it begins with 00 00 08, expected"),
        (b"\1" + LABELS[1:], "begins with 01 00 08 01"),
        (b"\0\1" + LABELS[2:], "begins with 00 01 08 01"),
        (b"\0\0\x0a" + LABELS[3:], "begins with 00 00 0a 01"),
        (b"\0\0\x08\3" + LABELS[4:], r"has 3 dimension\(s\), expected 1"),
        (LABELS[:6], "is cut off: it ends within the sizes of its 1 dimensions"),
        (LABELS[:-1], "is cut off"),
        (LABELS + b"\0", "is too long: more than 3 bytes of numbers, expected 3"),
        (LABELS[:4] + b"\xff\xff\xff\xff" + LABELS[8:], r"gives sizes \(-1,\), expected none below 0"),
        (LABELS[:4] + b"\x7f\xff\xff\xff" + LABELS[8:], r"is cut off, or its sizes \(2147483647,\) are wrong"),
    ],
)
def test_a_file_that_is_none(written, content, message, compressed):
    path = written(gzip.compress(content) if compressed else content)
    with pytest.raises(UserError, match=message) as error:
        read_idx(path, 1)
    assert str(path) in str(error.value)


def test_a_byte_too_few_is_seen_before_the_numbers_are_read(written):
    with pytest.raises(UserError, match=r"its sizes \(3,\) are wrong: 3 bytes of numbers do not fit in it"):
        read_idx(written(LABELS[:-1]))


def test_how_much_is_there_is_said_of_a_compressed_file(written):
    with pytest.raises(UserError, match=r"is cut off: 2 bytes of numbers, expected 3 for sizes \(3,\)"):
        read_idx(written(gzip.compress(LABELS[:-1])))


@pytest.mark.parametrize("compressed", [False, True])
def test_absurd_sizes_cost_no_memory(written, compressed):
    content = bytes.fromhex("00000e04") + 4 * bytes.fromhex("00010000") + bytes(100)
    path = written(gzip.compress(content) if compressed else content)
    tracemalloc.start()
    with pytest.raises(UserError, match="are wrong: 147573952589676412928 bytes"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_what_follows_is_not_unpacked(written):
    path = written(gzip.compress(LABELS + bytes(30_000_000), 1))
    tracemalloc.start()
    with pytest.raises(UserError, match="is too long: more than 3 bytes"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize("damage", [slice(-3, None), slice(-8, -4), slice(12, 16), slice(10, None), slice(3, None)])
def test_a_damaged_gzip_file(written, damage):
    content = bytearray(gzip.compress(idx(np.arange(5000) % 251, 0x08), mtime=0))
    content[damage] = bytes(len(content[damage])) if damage.stop else b""
    with pytest.raises(UserError, match="is a damaged gzip file"):
        read_idx(written(bytes(content)))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*nowhere: No such file or directory"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        read_idx(tmp_path)


def test_compression_is_seen_by_the_content(written):
    assert read_idx(written(LABELS, "labels.gz")).tolist() == [3, 1, 2]
    assert read_idx(written(gzip.compress(LABELS), "labels")).tolist() == [3, 1, 2]
