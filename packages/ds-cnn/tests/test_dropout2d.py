"""Dropout of channels: which numbers fall together, scaling, backward, and inputs as the twins take them."""

import warnings

import pytest
import torch
from ds_cnn import Dropout1d, Dropout2d, Dropout3d
from ds_core import Recompute, ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph

CLASSES = [
    (Dropout1d, torch.nn.Dropout1d, (3, 4, 5)),
    (Dropout2d, torch.nn.Dropout2d, (3, 4, 2, 3)),
    (Dropout3d, torch.nn.Dropout3d, (3, 4, 2, 2, 2)),
]


@pytest.mark.parametrize(("ours", "twin", "shape"), CLASSES)
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_layer(ours, twin, shape, p):
    check_layer(ours(p), torch.randn(shape))
    check_layer(ours(p).eval(), torch.randn(shape))


@pytest.mark.parametrize(("ours", "twin", "shape"), CLASSES)
def test_the_twin_where_nothing_is_drawn(ours, twin, shape):
    x = torch.randn(shape)
    assert check_twin_grid(ours, twin, {"p": [0.0, 0.5, 1.0, -0.1, 1.1]}, [x], modes=["eval"]) == 3
    for p in (0.0, 1.0):
        check_twin(ours(p), twin(p), x, modes=["train"])


def dims_that_fall_together(layer, x):
    """The shape of the mask: 1 where all numbers along a dimension are dropped or kept together, over many draws."""
    together = [True] * x.dim()
    torch.manual_seed(0)
    for _ in range(20):
        kept = layer(x) != 0
        together = [t and bool((kept == kept.narrow(d, 0, 1)).all()) for d, t in enumerate(together)]
    return together


@pytest.mark.parametrize(
    ("ours", "twin", "shape"),
    [
        *CLASSES,
        (Dropout1d, torch.nn.Dropout1d, (4, 5)),
        (Dropout2d, torch.nn.Dropout2d, (4, 5, 3)),
        (Dropout2d, torch.nn.Dropout2d, (4, 5)),
        (Dropout2d, torch.nn.Dropout2d, (2, 3, 2, 2, 2)),
        (Dropout3d, torch.nn.Dropout3d, (4, 5, 3, 2)),
        (Dropout3d, torch.nn.Dropout3d, (4, 5, 3)),
    ],
)
def test_the_same_numbers_fall_together_as_in_the_twin(ours, twin, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.ones(shape)
        assert dims_that_fall_together(ours(0.5), x) == dims_that_fall_together(twin(0.5), x)


@pytest.mark.parametrize(
    ("ours", "twin", "shape"),
    [
        (Dropout2d, torch.nn.Dropout2d, (4, 5, 3)),
        (Dropout2d, torch.nn.Dropout2d, (4, 5)),
        (Dropout3d, torch.nn.Dropout3d, (4, 5, 3)),
    ],
)
def test_doubtful_shapes_give_a_warning_as_in_the_twin(ours, twin, shape):
    for layer in (ours(0.5), twin(0.5)):
        with pytest.warns(UserWarning, match=r"input"):
            layer(torch.ones(shape))


@pytest.mark.parametrize(
    ("layer", "shape"), [(Dropout1d(), (3,)), (Dropout1d(), (2, 3, 4, 5)), (Dropout2d(), (3,)), (Dropout3d(), ())]
)
def test_impossible_input(layer, shape):
    with pytest.raises(ShapeError, match=r"Dropout.d\(p=0.5\): given input of shape"):
        layer(torch.ones(shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_share_and_the_scale(dtype):
    torch.manual_seed(0)
    y = Dropout2d(0.2)(torch.ones(200, 100, 1, 2, dtype=dtype))
    assert y.dtype == dtype
    assert set(y.flatten().tolist()) == {0.0, float(torch.tensor(1.25, dtype=dtype))}
    assert abs((y[..., 0] == 0).double().mean().item() - 0.2) < 5 * (0.2 * 0.8 / 20000) ** 0.5


def test_worked_example():
    x, dy = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]), torch.tensor([[[[0.4, 0.8]], [[1.0, -2.0]]]])
    layer = Dropout2d(0.2)
    for seed in range(100):  # until the second channel falls alone
        torch.manual_seed(seed)
        with record():
            y = layer(x)
            dx = layer.backward(dy)
        if y.flatten().tolist() == [1.25, 2.5, 0.0, 0.0]:
            assert dx.flatten().tolist() == pytest.approx([0.5, 1.0, 0.0, 0.0])
            return
    raise AssertionError("never dropped the second channel alone")


def test_one_number_a_channel_is_kept():
    with record() as trace:
        layer = Dropout2d(0.5)
        layer(torch.ones(4, 3, 8, 8))
        (line,) = trace.kept()
        layer.backward(None)
    assert line.bytes == 4 * 3 * 4


def test_recomputation_drops_the_same_channels():
    layer, x = Dropout2d(0.5), torch.randn(6, 5, 2, 2)
    again = Recompute(layer)
    with record():
        y = again(x)
        dx = again.backward(torch.ones_like(x))
    assert torch.equal(dx * x, y)


def test_evaluation_hands_the_input_on():
    x = torch.randn(2, 3, 2, 2)
    assert Dropout2d(0.5).eval()(x) is x
    assert repr(Dropout2d(0.3)) == "Dropout2d(p=0.3)"


def test_compiles_whole():
    layer = Dropout2d(0.25)

    def step(x):
        with record():
            y = layer(x)
            return y, layer.backward(torch.ones_like(x))

    x = torch.rand(4, 5, 2, 2) + 1
    y, dx = one_graph(step)(x)
    torch.testing.assert_close(y, x * dx)
    assert set(dx.flatten().tolist()) <= {0.0, float(torch.tensor(4 / 3))}
