import math

import pytest
import torch
from ds_core import ShapeError, primitives_only, record
from ds_core.testing import one_graph
from ds_transformers import SinusoidalPositions2d
from ds_transformers.positions.sinusoidal_2d import sinusoidal_2d_encoding
from hypothesis import given, settings
from hypothesis import strategies as st


def by_hand(mask, width, temperature, normalize, scale, eps):
    """Index by index: counts along the row and the column, and one sine or cosine after the other."""
    batch, height, columns = mask.shape
    encoding = torch.zeros(batch, height, columns, width, dtype=torch.float64)
    for b in range(batch):
        for y in range(height):
            for x in range(columns):
                down = [float(not mask[b, k, x]) for k in range(height)]
                along = [float(not mask[b, y, k]) for k in range(columns)]
                counts = [sum(down[: y + 1]), sum(along[: x + 1])]
                if normalize:
                    counts = [c / (sum(all_) + eps) * scale for c, all_ in zip(counts, (down, along), strict=True)]
                for e in range(width):
                    half, channel = divmod(e, width // 2)
                    angle = counts[half] / temperature ** (2 * (channel // 2) / (width // 2))
                    encoding[b, y, x, e] = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
    return encoding


def test_worked_example():
    mask = torch.tensor([[[False, True], [False, True]]])
    encoding = SinusoidalPositions2d(4, scale=2.0)(mask)
    padded = [0.0, 1.0, 0.9093, -0.4161]
    expected = [[[0.8415, 0.5403, 0.9093, -0.4161], padded], [[0.9093, -0.4161, 0.9093, -0.4161], padded]]
    torch.testing.assert_close(encoding[0], torch.tensor(expected), rtol=0, atol=5e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 4)),
    quarter=st.integers(1, 3),
    temperature=st.floats(2.0, 2e4),
    normalize=st.booleans(),
    scale=st.floats(0.5, 7.0),
    padded=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 100),
)
def test_index_by_index(shape, quarter, temperature, normalize, scale, padded, seed):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < padded
    options = {"temperature": temperature, "normalize": normalize, "scale": scale, "eps": 1e-3}
    encoding = sinusoidal_2d_encoding(mask, 4 * quarter, **options, dtype=torch.float64)
    torch.testing.assert_close(encoding, by_hand(mask, 4 * quarter, **options), rtol=0, atol=1e-12)
    layer = SinusoidalPositions2d(4 * quarter, **options, dtype=torch.float64)
    assert torch.equal(layer(mask), encoding)


def test_defaults_are_detrs():
    mask = torch.zeros(2, 5, 7, dtype=torch.bool)
    mask[1, 3:], mask[1, :, 4:] = True, True
    expected = by_hand(mask, 16, 10000.0, True, 2 * math.pi, 1e-6)
    torch.testing.assert_close(SinusoidalPositions2d(16)(mask).double(), expected, rtol=0, atol=2e-6)


def test_without_padding():
    layer = SinusoidalPositions2d(8)
    encoding = layer.of_size(3, 5)
    assert encoding.shape == (1, 3, 5, 8)
    assert torch.equal(encoding, layer(torch.zeros(1, 3, 5, dtype=torch.bool)))
    assert torch.equal(encoding[:, :, :1, :4].expand(1, 3, 5, 4), encoding[..., :4])  # first half: the row alone
    assert torch.equal(encoding[:, :1, :, 4:].expand(1, 3, 5, 4), encoding[..., 4:])


def test_padding_changes_nothing_of_the_picture_in_it():
    layer = SinusoidalPositions2d(8)
    mask = torch.ones(1, 6, 9, dtype=torch.bool)
    mask[:, :3, :5] = False
    assert torch.equal(layer(mask)[:, :3, :5], layer.of_size(3, 5))


def test_all_padding_is_finite():
    encoding = SinusoidalPositions2d(8)(torch.ones(1, 2, 2, dtype=torch.bool))
    assert torch.equal(encoding, torch.tensor([0.0, 1.0] * 4).expand(1, 2, 2, 8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype):
    layer = SinusoidalPositions2d(8, normalize=False)
    wide = layer.of_size(300, 2)
    assert wide.dtype == torch.float32
    assert torch.equal(layer.of_size(300, 2, dtype=dtype), wide.to(dtype))
    assert SinusoidalPositions2d(8, dtype=dtype).of_size(2, 2).dtype == dtype


def test_primitives_only_and_no_gradient():
    layer = SinusoidalPositions2d(8)
    with record() as trace, primitives_only():
        layer(torch.zeros(2, 3, 4, dtype=torch.bool))
        assert len(trace) == 0
        assert layer.backward(torch.ones(2, 3, 4, 8)) is None
    assert layer.state_dict() == {}


def test_compiles_in_one_graph():
    layer = SinusoidalPositions2d(8)
    compiled = one_graph(layer.forward, dynamic=True)
    for shape in [(2, 3, 4), (3, 6, 5)]:
        mask = torch.rand(shape) < 0.3
        torch.testing.assert_close(compiled(mask), layer(mask))


@pytest.mark.parametrize("options", [{"embed_dim": 6}, {"embed_dim": 0}, {"embed_dim": 4, "temperature": 0.0}])
def test_impossible_arguments_are_named(options):
    name, value = list(options.items())[-1]
    with pytest.raises(ValueError, match=f"{name}={value}.*multiple of 4"):
        SinusoidalPositions2d(**options)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.bool), r"mask of shape \(3, 4\) and torch.bool, expected \(B, Y, X\)"),
        (torch.zeros(2, 3, 4), r"shape \(2, 3, 4\) and torch.float32"),
        (torch.zeros(2, 3, 4, dtype=torch.int64), "torch.int64"),
    ],
)
def test_masks_that_do_not_fit_are_named(mask, message):
    with pytest.raises(ShapeError, match=message):
        SinusoidalPositions2d(8)(mask)
