import pytest
import torch
from ds_cnn.pooling.windows import (
    covered_positions,
    offsets,
    window_count,
    window_lengths,
    window_sums,
    window_sums_backward,
    zeros_along,
)
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


def test_positions_covered_row_by_row():
    found = covered_positions((1, 0), (3, 4), (2, 3), (2, 1), (0, 1), (1, 2))
    # the third row alone is inside; of the columns -1, 1 and 3 the first is padding
    assert found == [((0, 1), (2, 1)), ((0, 2), (2, 3))]


@settings(deadline=None)
@given(geometries(), st.integers(1, 3))
def test_offsets_are_the_positions_covered(geometry, dilation):
    size, kernel, stride, padding = geometry
    count = window_count(size + dilation * kernel, kernel, stride, padding, True, dilation)
    found = {}
    for k, windows, positions in offsets(size, count, kernel, stride, padding, dilation):
        for window, position in zip(range(count)[windows], range(size)[positions], strict=True):
            found.setdefault(window, []).append(((k,), (position,)))
    expected = {
        o: covered_positions((o,), (size,), (kernel,), (stride,), (padding,), (dilation,)) for o in range(count)
    }
    assert found == {o: pairs for o, pairs in expected.items() if pairs}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0)])
def test_zeros_lie_in_memory_as_the_image_does(order):
    x = torch.randn(2, 3, 4, 5).permute(order).contiguous().permute([order.index(axis) for axis in range(4)])
    zeros = zeros_along(x, -1, 7, torch.float64)
    assert zeros.dtype == torch.float64
    assert zeros.shape == (2, 3, 4, 7)
    assert zeros.permute(order).is_contiguous()
    assert not zeros.any()


@settings(deadline=None)
@given(geometries(), st.booleans())
def test_as_many_windows_as_pytorch_has(geometry, ceil_mode):
    size, kernel, stride, padding = geometry
    twin = torch.nn.AvgPool1d(kernel, stride, padding, ceil_mode)
    assert window_count(*geometry, ceil_mode) == twin(torch.zeros(1, 1, size)).shape[-1]


@settings(deadline=None)
@given(geometries(), st.booleans(), st.integers(1, 3))
def test_as_many_windows_as_pytorch_has_with_dilation(geometry, ceil_mode, dilation):
    size, kernel, stride, padding = geometry
    size += (dilation - 1) * (kernel - 1)
    twin = torch.nn.MaxPool1d(kernel, stride, padding, dilation, ceil_mode=ceil_mode, return_indices=True)
    count = window_count(size, kernel, stride, padding, ceil_mode, dilation)
    assert count == twin(torch.zeros(1, 1, size))[0].shape[-1]
