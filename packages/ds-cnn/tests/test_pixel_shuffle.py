import pytest
import torch
from ds_cnn import PixelShuffle, PixelUnshuffle, pixel_shuffle, pixel_unshuffle
from ds_core import ShapeError, record
from ds_core.testing import check_layer, check_signature, check_twin, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

TWINS = {PixelShuffle: torch.nn.PixelShuffle, PixelUnshuffle: torch.nn.PixelUnshuffle}
BOTH = pytest.mark.parametrize("layer", TWINS)


@BOTH
def test_layer(layer):
    shape = (2, 8, 3, 2) if layer is PixelShuffle else (2, 2, 4, 6)
    check_layer(layer(2), torch.randn(shape))
    check_layer(layer(1), torch.randn(shape))


@BOTH
def test_signature(layer):
    check_signature(layer, TWINS[layer])


@BOTH
@pytest.mark.parametrize("before", [(), (2,), (2, 3), (0,)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 4)])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_twin(layer, before, channels, size, factor):
    small = (*before, channels * factor**2, *size)
    large = (*before, channels, size[0] * factor, size[1] * factor)
    x = torch.randn(small if layer is PixelShuffle else large)
    if x.numel() == 0:  # PyTorch's unshuffle gives an empty image back as it is
        assert layer(factor)(x).shape == (large if layer is PixelShuffle else small)
    else:
        check_twin(layer(factor), TWINS[layer](factor), x, modes=["eval"])


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_one_undoes_the_other(channels, height, width, factor):
    x = torch.randn(2, channels * factor**2, height, width)
    y = pixel_shuffle(x, factor)
    assert y.shape == (2, channels, height * factor, width * factor)
    assert torch.equal(pixel_unshuffle(y, factor), x)


@BOTH
def test_nothing_is_shared_and_channels_last_is_taken(layer):
    x = torch.randn(2, 4, 2, 2).contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer(2)(x), TWINS[layer](2)(x))
    for factor, shape in [
        (1, (1, 4, 2, 2)),
        (2, (1, 4, 2, 2)),
        (2, (1, 4, 1, 1) if layer is PixelShuffle else (1, 1, 2, 2)),
    ]:
        x = torch.randn(shape)
        assert layer(factor)(x).data_ptr() != x.data_ptr()


def test_worked_example():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1)
    dy = torch.tensor([[[0.5, -1.5], [2.5, 0.0]]])
    layer = PixelShuffle(2)
    with record():
        assert layer(x).tolist() == [[[1.0, 2.0], [3.0, 4.0]]]
        assert layer.backward(dy).flatten().tolist() == [0.5, -1.5, 2.5, 0.0]


@BOTH
@pytest.mark.parametrize(("factor", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_impossible_factors(layer, factor, error):
    with pytest.raises(error, match=f"{layer.__name__}: given .*scale_factor={factor}, expected"):
        layer(factor)
    with pytest.raises((RuntimeError, TypeError)):
        TWINS[layer](factor)(torch.zeros(1, 4, 4, 4))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (PixelShuffle, (4, 4)),
        (PixelShuffle, (2, 5, 2, 2)),
        (PixelUnshuffle, (4, 4)),
        (PixelUnshuffle, (1, 3, 4)),
        (PixelUnshuffle, (1, 4, 3)),
    ],
)
def test_impossible_input(layer, shape):
    with pytest.raises(ShapeError, match=rf"{layer.__name__}\(\w+_factor=2\): given input of shape"):
        layer(2)(torch.zeros(shape))
    with pytest.raises(RuntimeError):
        TWINS[layer](2)(torch.zeros(shape))


def test_compiles_whole():
    layer, x, dy = PixelShuffle(2), torch.randn(2, 8, 3, 3), torch.randn(2, 2, 6, 6)

    def step(x, dy):
        with record():
            return layer(x), layer.backward(dy)

    torch.testing.assert_close(one_graph(step)(x, dy), step(x, dy))
