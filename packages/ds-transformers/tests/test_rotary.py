import math

import pytest
import torch
from ds_core import ShapeError, primitives_only, record
from ds_core.testing import check_layer, one_graph
from ds_transformers import RotaryPositions, rotary, rotary_backward
from ds_transformers.positions.rotary import rotary_table
from hypothesis import given, settings
from hypothesis import strategies as st

both_pairings = pytest.mark.parametrize("interleaved", [False, True])


class At(RotaryPositions):
    """A layer of one input, so that `check_layer` can look at it."""

    offset = 0

    def forward(self, x):
        return super().forward(x, self.offset)


def as_complex(x, rotary_dim, interleaved):
    """The pairs as complex numbers, and the rest."""
    turned, rest = x[..., :rotary_dim], x[..., rotary_dim:]
    pairs = turned.unflatten(-1, (-1, 2)) if interleaved else turned.unflatten(-1, (2, -1)).transpose(-1, -2)
    return torch.complex(*pairs.unbind(-1)), rest


def turned_by_hand(x, offset=0, rotary_dim=None, interleaved=False, base=10000.0):
    """Multiplication by exp(i t w_j), which knows nothing of sines and cosines being written out."""
    rotary_dim = x.shape[-1] if rotary_dim is None else rotary_dim
    numbers, rest = as_complex(x.double(), rotary_dim, interleaved)
    positions = torch.arange(offset, offset + x.shape[-2], dtype=torch.float64)
    speeds = torch.tensor([base ** (-2 * j / rotary_dim) for j in range(rotary_dim // 2)], dtype=torch.float64)
    product = torch.view_as_real(numbers * torch.exp(1j * positions[:, None] * speeds))
    return torch.cat([product.flatten(-2) if interleaved else product.transpose(-1, -2).flatten(-2), rest], -1)


@both_pairings
def test_worked_example(interleaved):
    cos, sin = rotary_table(2, 2, 1)
    angles = torch.tensor([[0.5403, 0.8415], [-0.4161, 0.9093]])
    torch.testing.assert_close(torch.cat([cos, sin], 1), angles, rtol=0, atol=5e-5)
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    y = rotary(x, cos, sin, interleaved)
    torch.testing.assert_close(y, torch.tensor([[0.5403, 0.8415], [-1.8186, -0.8323]]), rtol=0, atol=5e-5)
    dy = torch.tensor([[1.0, 2.0], [-1.0, 1.0]])
    dx = rotary_backward(dy, cos, sin, interleaved)
    torch.testing.assert_close(dx, torch.tensor([[2.2232, 0.2391], [1.3254, 0.4932]]), rtol=0, atol=5e-5)
    assert (y[0] @ y[1]).item() == pytest.approx(-1.6829, abs=5e-5)
    later = rotary(x, *rotary_table(2, 2, 6), interleaved)
    assert (later[0] @ later[1]).item() == pytest.approx(-1.6829, abs=5e-5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    leading=st.lists(st.integers(0, 3), max_size=3),
    length=st.integers(0, 6),
    width=st.integers(2, 9),
    rotary_pairs=st.integers(1, 4),
    interleaved=st.booleans(),
    offset=st.integers(0, 3000),
    base=st.floats(2.0, 1e6),
)
def test_is_multiplication_of_complex_numbers(leading, length, width, rotary_pairs, interleaved, offset, base):
    rotary_dim = min(2 * rotary_pairs, width // 2 * 2)
    x, dy = torch.randn(2, *leading, length, width, dtype=torch.float64).unbind()
    layer = RotaryPositions(width, rotary_dim=rotary_dim, interleaved=interleaved, base=base)
    y = layer.rotate(x, offset)
    torch.testing.assert_close(y, turned_by_hand(x, offset, rotary_dim, interleaved, base), rtol=0, atol=1e-11)
    torch.testing.assert_close(layer.rotate_backward(y, offset), x, rtol=0, atol=1e-13)
    torch.testing.assert_close((layer.rotate_backward(dy, offset) * x).sum(), (dy * y).sum(), rtol=1e-11, atol=1e-11)


@both_pairings
@pytest.mark.parametrize("rotary_dim", [None, 4])
@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 1, 1, 6), (4, 6), (2, 2, 0, 6), (3, 4, 6)])
def test_gradients(shape, offset, rotary_dim, interleaved):
    layer = At(6, rotary_dim=rotary_dim, interleaved=interleaved)
    layer.offset = offset
    check_layer(layer, torch.randn(shape), batch_dim=0 if len(shape) > 2 and shape[2] > 0 else None)


@both_pairings
@pytest.mark.parametrize("rotary_dim", [None, 2])
def test_products_depend_on_the_distance_alone(interleaved, rotary_dim):
    query, key = torch.randn(2, 6, dtype=torch.float64)
    layer = RotaryPositions(6, interleaved=interleaved, rotary_dim=rotary_dim)
    queries, keys = (layer.rotate(each.expand(40, 6)) for each in (query, key))
    products = queries @ keys.T
    for distance in (-30, -1, 0, 1, 12):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand(len(diagonal)), rtol=0, atol=1e-12)
    assert products.diagonal(0)[0].item() == pytest.approx((query @ key).item(), abs=1e-12)
    assert (products.diagonal(1)[0] - products.diagonal(0)[0]).abs() > 1e-3


@both_pairings
def test_offset_is_a_later_part_of_the_same_text(interleaved):
    layer = RotaryPositions(4, interleaved=interleaved)
    x = torch.randn(2, 3, 10, 4)
    whole = layer.rotate(x)
    assert torch.equal(torch.cat([layer.rotate(x[:, :, :7]), layer.rotate(x[:, :, 7:], 7)], 2), whole)


def test_positions_of_each_example():
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    tables = [rotary_table(5, 4, offset, dtype=torch.float64) for offset in (0, 9)]
    cos, sin = (torch.stack(parts).unsqueeze(1) for parts in zip(*tables, strict=True))  # (2, 1, 5, 2)
    y, dx = rotary(x, cos, sin), rotary_backward(x, cos, sin)
    for example, table in enumerate(tables):
        torch.testing.assert_close(y[example], rotary(x[example], *table), rtol=0, atol=0)
        torch.testing.assert_close(dx[example], rotary_backward(x[example], *table), rtol=0, atol=0)


def test_far_positions_keep_their_angles():
    """In float32 angles near 1e6 are 1/16 apart."""
    x = torch.randn(3, 8)
    y = RotaryPositions(8).rotate(x, 1_000_000)
    torch.testing.assert_close(y.double(), turned_by_hand(x, 1_000_000), rtol=0, atol=1e-6)


@both_pairings
def test_bfloat16_is_turned_in_float32_and_rounded_once(interleaved):
    x = torch.randn(3, 50, 8).bfloat16()
    layer = RotaryPositions(8, interleaved=interleaved)
    for turn, exact in [
        (layer.rotate, turned_by_hand(x, 3, interleaved=interleaved)),
        (layer.rotate_backward, layer.rotate_backward(x.double(), 3)),
    ]:
        found = turn(x, 3)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-6)
        assert torch.equal(found, turn(x.float(), 3).bfloat16())
    table = rotary_table(50, 8, dtype=torch.bfloat16)
    wide = [part.float() for part in table]
    for turn in (rotary, rotary_backward):
        assert torch.equal(turn(x, *table, interleaved), turn(x.float(), *wide, interleaved).bfloat16())


def test_infinity_and_zero():
    layer = RotaryPositions(4, rotary_dim=2)
    x = torch.tensor([[0.0, 1e4, math.inf, -math.inf], [1e4, -1e4, 0.0, 1e30]])
    y = layer.rotate(x)
    assert torch.equal(y[0], x[0])  # position 0 turns nothing
    assert torch.equal(y[:, 2:], x[:, 2:])
    torch.testing.assert_close(y.double(), turned_by_hand(x, 0, 2), rtol=1e-6, atol=1e-3)


def test_a_table_made_in_inference_mode_serves_autograd_later():
    layer = RotaryPositions(4)
    with torch.inference_mode():
        layer.rotate(torch.zeros(5, 4))
    x = torch.randn(5, 4, requires_grad=True)
    layer.rotate(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.rotate_backward(torch.ones(5, 4)))


def test_nothing_is_kept_and_nothing_is_state():
    layer = RotaryPositions(4, max_length=3)
    assert layer.state_dict() == {}
    assert [*layer.parameters(), *layer.buffers()] == []
    x = torch.randn(2, 2, 9, 4)
    with record() as trace, primitives_only():
        y = layer.rotate(x)
        layer.rotate_backward(y)
        assert len(trace) == 0
        layer(x, 1)
        assert [line.bytes for line in trace.kept()] == [0]
        assert torch.equal(layer.backward(y), layer.rotate_backward(y, 1))


@pytest.mark.parametrize(("interleaved", "max_length"), [(False, 0), (True, 16)])
def test_compiles_in_one_graph(interleaved, max_length):
    layer = RotaryPositions(6, rotary_dim=4, interleaved=interleaved, max_length=max_length)

    def step(x):
        with record():
            return layer.backward(layer(x, 2) * x)

    # without a table, step fills it: the second graph slices it
    compiled = one_graph(step, dynamic=True, graphs=1 if max_length else 2)
    for shape in [(2, 3, 4, 6), (3, 2, 7, 6)]:
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), step(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_dim": 5}, "head_dim=5 and rotary_dim=5, expected rotary_dim to be even"),
        ({"head_dim": 4, "rotary_dim": 6}, "head_dim=4 and rotary_dim=6"),
        ({"head_dim": 4, "rotary_dim": 0}, "rotary_dim=0"),
        ({"head_dim": 4, "base": -1.0}, r"base=-1.0.*expected base > 0"),
        ({"head_dim": 4, "max_length": -2}, "max_length=-2"),
    ],
)
def test_impossible_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RotaryPositions(**options)


@pytest.mark.parametrize("method", ["rotate", "rotate_backward", "forward"])
@pytest.mark.parametrize(
    ("x", "offset", "error", "message"),
    [
        (torch.zeros(2, 3, 5), 0, ShapeError, r"shape \(2, 3, 5\) and torch.float32, expected \(..., T, 4\)"),
        (torch.zeros(4), 0, ShapeError, r"shape \(4,\)"),
        (torch.zeros(2, 4, dtype=torch.int64), 0, ShapeError, "torch.int64"),
        (torch.zeros(2, 4), -3, ValueError, "given offset=-3"),
    ],
)
def test_inputs_that_do_not_fit_are_named(x, offset, error, message, method):
    with pytest.raises(error, match=message):
        getattr(RotaryPositions(4), method)(x, offset)


@pytest.mark.parametrize("function", [rotary, rotary_backward])
@pytest.mark.parametrize(("cos", "sin"), [((3, 2), (3, 1)), ((1, 2), (1, 2)), ((3, 3), (3, 3)), ((1, 1, 3, 2),) * 2])
def test_tables_that_do_not_fit_are_named(cos, sin, function):
    with pytest.raises(ShapeError, match=r"x \(2, 3, 4\), cos \("):
        function(torch.zeros(2, 3, 4), torch.zeros(cos), torch.zeros(sin))
