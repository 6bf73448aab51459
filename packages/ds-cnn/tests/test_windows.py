import pytest
import torch
from ds_cnn.pooling.windows import pair, window_count, window_lengths, window_sums, window_sums_backward
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def geometries(draw):
    kernel = draw(st.integers(1, 5))
    stride, padding = draw(st.integers(1, 6)), draw(st.integers(0, kernel // 2))
    return draw(st.integers(max(1, kernel - 2 * padding), 12)), kernel, stride, padding


def covered(size, kernel, stride, padding):
    """The positions each window covers, by counting on fingers."""
    starts = range(-padding, size + padding - kernel + 1, stride)
    return [[position for position in range(start, start + kernel) if 0 <= position < size] for start in starts]


@settings(deadline=None)
@given(geometries(), st.booleans())
def test_sums_are_those_of_the_positions_covered(geometry, last):
    size, kernel, stride, padding = geometry
    windows = covered(*geometry)
    assert window_count(*geometry) == len(windows)
    x = torch.randn(2, size, 3, dtype=torch.float64)
    dim, x = (-1, x.transpose(1, 2)) if last else (-2, x)
    y = window_sums(x, dim, len(windows), kernel, stride, padding)
    expected = torch.stack([x.index_select(dim, torch.tensor(positions)).sum(dim) for positions in windows], dim)
    torch.testing.assert_close(y, expected)
    dy = torch.randn_like(y)
    dx = window_sums_backward(dy, dim, size, kernel, stride, padding)
    torch.testing.assert_close((dx * x).sum(), (dy * y).sum())  # the adjoint of a linear map: <A^T dy, x> = <dy, A x>


@settings(deadline=None)
@given(geometries())
def test_lengths_without_padding_count_the_positions_covered(geometry):
    windows = covered(*geometry)
    lengths = window_lengths(geometry[0], len(windows), *geometry[1:], False, torch.zeros(1))
    assert lengths.tolist() == [len(positions) for positions in windows]


def test_worked_example():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert window_count(4, 3, 2, 1) == 2
    assert window_count(4, 3, 2, 1, ceil_mode=True) == 3
    assert window_sums(x, -1, 3, 3, 2, 1).tolist() == [3.0, 9.0, 4.0]
    assert window_lengths(4, 3, 3, 2, 1, True, x).tolist() == [3.0, 3.0, 2.0]
    assert window_lengths(4, 3, 3, 2, 1, False, x).tolist() == [2.0, 3.0, 1.0]
    assert window_sums_backward(torch.tensor([0.5, 1.0, -2.0]), -1, 4, 3, 2, 1).tolist() == [0.5, 1.5, 1.0, -1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    ones = torch.ones(4097, dtype=dtype)
    assert window_sums(ones, -1, 1, 4097, 1, 0).tolist() == [4097.0]
    assert window_sums_backward(ones, -1, 4097, 4097, 1, 2048)[2048].item() == 4097.0


def test_pair():
    assert pair(2, "size") == pair((2,), "size") == pair((2, 2), "size") == (2, 2)
    assert pair((2, 3), "size") == (2, 3)
    with pytest.raises(ValueError, match="size: given"):
        pair((1, 2, 3), "size")


@settings(deadline=None)
@given(geometries(), st.booleans())
def test_as_many_windows_as_pytorch_has(geometry, ceil_mode):
    size, kernel, stride, padding = geometry
    twin = torch.nn.AvgPool1d(kernel, stride, padding, ceil_mode)
    assert window_count(*geometry, ceil_mode) == twin(torch.zeros(1, 1, size)).shape[-1]
