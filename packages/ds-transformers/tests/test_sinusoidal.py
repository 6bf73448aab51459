import copy
import math
import pickle

import pytest
import torch
from ds_core import ShapeError, primitives_only, record
from ds_core.testing import check_layer, one_graph
from ds_transformers import SinusoidalPositions, sinusoidal_encoding
from hypothesis import given, settings
from hypothesis import strategies as st


class At(SinusoidalPositions):
    """A layer of one input, so that `check_layer` can look at it."""

    offset = 0

    def forward(self, x):
        return super().forward(x, self.offset)


def by_hand(position, column, width, base=10000.0):
    angle = position / base ** (2 * (column // 2) / width)
    return math.sin(angle) if column % 2 == 0 else math.cos(angle)


def test_worked_example():
    encoding = sinusoidal_encoding(2, 4, 1, base=100.0)
    expected = torch.tensor([[0.8415, 0.5403, 0.0998, 0.9950], [0.9093, -0.4161, 0.1987, 0.9801]])
    torch.testing.assert_close(encoding, expected, rtol=0, atol=5e-5)
    x = torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 0.5, 0.0, -0.5]])
    y = torch.tensor([[1.8415, 0.5403, -0.9002, 0.9950], [0.9093, 0.0839, 0.1987, 0.4801]])
    torch.testing.assert_close(SinusoidalPositions(4, base=100.0)(x, 1), y, rtol=0, atol=6e-5)
    turned = [math.sin(1) * math.cos(1) + math.cos(1) * math.sin(1), math.cos(1) ** 2 - math.sin(1) ** 2]
    assert turned == pytest.approx([0.9093, -0.4161], abs=5e-5)
    assert (encoding[0] @ encoding[1]).item() == pytest.approx(1.5353, abs=5e-5)
    assert math.cos(1) + math.cos(0.1) == pytest.approx(1.5353, abs=5e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(length=st.integers(0, 9), width=st.integers(1, 7), offset=st.integers(0, 5000), base=st.floats(2.0, 1e5))
def test_index_by_index(length, width, offset, base):
    encoding = sinusoidal_encoding(length, width, offset, base=base, dtype=torch.float64)
    assert encoding.shape == (length, width)
    for position in range(length):
        for column in range(width):
            expected = by_hand(offset + position, column, width, base)
            assert encoding[position, column].item() == pytest.approx(expected, abs=1e-11)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    leading=st.lists(st.integers(0, 3), max_size=2),
    calls=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 40)), min_size=1, max_size=4),
    width=st.integers(1, 6),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    max_length=st.integers(0, 20),
)
def test_any_order_of_calls_gives_the_same_rows(leading, calls, width, dtype, max_length):
    layer = SinusoidalPositions(width, max_length=max_length)
    for length, offset in calls:
        x = torch.randn(*leading, length, width).to(dtype)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        expected = (x.to(wide) + sinusoidal_encoding(length, width, offset, dtype=wide)).to(dtype)
        y = layer(x, offset)
        assert y.dtype == dtype
        assert torch.equal(y, expected)


@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 4), (2, 0, 4), (3, 4), (2, 2, 3, 5)])
def test_gradients(shape, offset):
    layer = At(shape[-1])
    layer.offset = offset
    check_layer(layer, torch.randn(shape), batch_dim=0 if len(shape) > 2 and shape[1] > 0 else None)


def test_rounded_once_whatever_came_before():
    """A float32 table must not be what a float64 input gets, nor a shorter one what a longer text gets."""
    layer = SinusoidalPositions(6)
    layer(torch.zeros(50, 6))
    for dtype in (torch.float64, torch.float32):
        y = layer.to(dtype)(torch.zeros(3, 6, dtype=dtype), 100_000)
        expected = torch.tensor([[by_hand(100_000 + t, e, 6) for e in range(6)] for t in range(3)], dtype=torch.float64)
        assert torch.equal(y, expected.to(dtype)) or (y - expected).abs().max() < 1e-10
    assert not torch.equal(y, layer(torch.zeros(3, 6), 100_001))


def test_bfloat16_adds_in_float32():
    x = torch.full((1, 200, 2), 0.3, dtype=torch.bfloat16)
    y = SinusoidalPositions(2)(x)
    exact = x.double() + sinusoidal_encoding(200, 2, dtype=torch.float64)
    assert torch.equal(y, exact.to(torch.bfloat16))


def test_a_shift_turns_every_pair():
    encoding = sinusoidal_encoding(60, 8, dtype=torch.float64)
    for shift in (1, 7):
        for pair in range(4):
            angle = shift * 10000.0 ** (-2 * pair / 8)
            turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
            before, after = (rows[:, 2 * pair : 2 * pair + 2] for rows in (encoding[:-shift], encoding[shift:]))
            torch.testing.assert_close(before @ turn.double().T, after, rtol=0, atol=1e-7)
    products = encoding @ encoding.T
    for distance in (0, 3, 20):
        diagonal = products.diagonal(distance)
        expected = sum(math.cos(distance * 10000.0 ** (-2 * pair / 8)) for pair in range(4))
        torch.testing.assert_close(diagonal, torch.full_like(diagonal, expected), rtol=0, atol=1e-12)


def test_no_state_and_nothing_kept():
    layer = SinusoidalPositions(4, max_length=9, dtype=torch.float64)
    assert layer.state_dict() == {}
    assert [*layer.parameters(), *layer.buffers()] == []
    with record() as trace, primitives_only():
        layer(torch.zeros(2, 30, 4))
        assert [line.bytes for line in trace.kept()] == [0]
        dy = torch.randn(2, 30, 4)
        assert torch.equal(layer.backward(dy), dy)
    x = torch.randn(2, 3, 4)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x, 2), layer(x, 2))


def test_rows_of_a_growing_text_are_made_a_few_times_only():
    layer = SinusoidalPositions(4)
    makes = 0
    function = layer._table._function

    def counting(positions):
        nonlocal makes
        makes += 1
        return function(positions)

    layer._table._function = counting
    for token in range(1000):
        layer(torch.zeros(1, 1, 4), token)
    assert makes == 11  # 1, 2, 4 ... 1024 rows
    layer(torch.zeros(1, 1024, 4))
    assert makes == 11


@pytest.mark.parametrize("max_length", [0, 64])
def test_compiles_in_one_graph(max_length):
    layer = SinusoidalPositions(4, max_length=max_length)

    def step(x, offset):
        with record():
            return layer.backward(layer(x, offset) * 2)

    compiled = one_graph(step, dynamic=True, graphs=3)
    for length, offset in [(3, 0), (5, 7), (40, 20)]:
        x = torch.randn(2, length, 4)
        expected = 2 * (x + sinusoidal_encoding(length, 4, offset))
        torch.testing.assert_close(compiled(x, offset), expected)
    assert torch.equal(layer(x, 20), x + sinusoidal_encoding(40, 4, 20))


@pytest.mark.parametrize(
    ("x", "offset", "error", "message"),
    [
        (torch.zeros(2, 3, 5), 0, ShapeError, r"input of shape \(2, 3, 5\) and torch.float32, expected \(..., T, 4\)"),
        (torch.zeros(4), 0, ShapeError, r"input of shape \(4,\)"),
        (torch.zeros(2, 4, dtype=torch.int64), 0, ShapeError, "torch.int64, expected .* of a floating dtype"),
        (torch.zeros(2, 4), -1, ValueError, r"SinusoidalPositions\(embed_dim=4, base=10000.0\): given offset=-1"),
    ],
)
def test_inputs_that_do_not_fit_are_named(x, offset, error, message):
    with pytest.raises(error, match=message):
        SinusoidalPositions(4)(x, offset)


@pytest.mark.parametrize(
    "options", [{"embed_dim": 0}, {"embed_dim": 4, "base": 0.0}, {"embed_dim": 4, "max_length": -1}]
)
def test_impossible_arguments_are_named(options):
    name, value = list(options.items())[-1]
    with pytest.raises(ValueError, match=f"{name}={value}"):
        SinusoidalPositions(**options)
