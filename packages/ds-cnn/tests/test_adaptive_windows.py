import pytest
import torch
from ds_cnn.pooling.adaptive_windows import (
    adaptive_window,
    adaptive_windows,
    chosen_size,
    is_regular,
    longest_window,
    read_output_size,
    regular_geometry,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = (st.integers(1, 40), st.integers(1, 50))


@settings(deadline=None, max_examples=30)
@given(*SIZES)
def test_windows_cover_the_axis_in_order(size, count):
    windows = adaptive_windows(size, count)
    assert windows[0][0] == 0
    assert windows[-1][1] == size
    assert {i for window in windows for i in range(*window)} == set(range(size))
    assert windows == sorted(windows)
    lengths = {end - start for start, end in windows}
    assert max(lengths) == longest_window(size, count)
    assert max(lengths) - min(lengths) <= 1 + (size % count != 0)
    if is_regular((size,), (count,)):
        ((kernel,), (stride,), (padding,)) = regular_geometry((size,), (count,))
        assert windows == [(o * stride - padding, o * stride - padding + kernel) for o in range(count)]


@settings(deadline=None, max_examples=30)
@given(*SIZES)
def test_windows_are_pytorchs(size, count):
    gradient = torch.eye(count, dtype=torch.float64)[None]  # (1, O, O): the channel o asks for window o
    x = torch.zeros(1, count, size, dtype=torch.float64, requires_grad=True)
    torch.nn.AdaptiveAvgPool1d(count)(x).backward(gradient)
    for o, row in enumerate(x.grad[0]):
        start, end = adaptive_window(o, size, count)
        assert row.nonzero().flatten().tolist() == list(range(start, end))


def test_worked_example():
    assert adaptive_windows(5, 3) == [(0, 2), (1, 4), (3, 5)]
    assert adaptive_windows(6, 3) == [(0, 2), (2, 4), (4, 6)]
    assert adaptive_windows(2, 3) == [(0, 1), (0, 2), (1, 2)]


def test_output_size_is_read():
    assert read_output_size(object(), 2, 3) == read_output_size(object(), 2, [3, 3]) == (3, 3)
    assert read_output_size(object(), 2, (None, 4)) == (None, 4)
    assert read_output_size(object(), 2, None) == (None, None)
    assert chosen_size((7, 9), (None, 4)) == (7, 4)


@pytest.mark.parametrize("given_size", [0, -1, (2, 0), (1, 2, 3), 1.5, (2,)])
def test_impossible_output_size(given_size):
    with pytest.raises(ValueError, match="object: output_size"):
        read_output_size(object(), 2, given_size)
