"""BatchNorm2d and BatchNorm3d against their twins; the mathematics is tested in ds-core."""

import pytest
import torch
from ds_cnn import BatchNorm2d, BatchNorm3d
from ds_core import ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])
STATISTICS = ["running_mean", "running_var", "num_batches_tracked"]


@BOTH
@pytest.mark.parametrize("training", [True, False])
def test_layer(implementation, training):
    layer = BatchNorm2d(2, implementation=implementation).train(training)
    check_layer(layer, torch.randn(2, 2, 2, 2) + 1, samples=2)


@pytest.mark.parametrize(
    ("ours", "twin", "shape"),
    [(BatchNorm2d, torch.nn.BatchNorm2d, (3, 2, 3, 4)), (BatchNorm3d, torch.nn.BatchNorm3d, (2, 2, 2, 3, 2))],
)
def test_twin_over_all_arguments(ours, twin, shape):
    grid = {
        "num_features": [2],
        "eps": [1e-5, 0.1],
        "momentum": [0.1, None, 0.0, 1.0],
        "affine": [True, False],
        "track_running_stats": [True, False],
        "bias": [True, False],
    }
    whole, x = ours is BatchNorm2d, 2 * torch.randn(shape) + 1
    assert check_twin_grid(ours, twin, grid, [x], newer=["bias"], thinned=not whole) >= (32 if whole else 8)


@settings(deadline=None, max_examples=20)
@given(
    shape=st.tuples(st.integers(2, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    last=st.booleans(),
    implementation=st.sampled_from(["vectorized", "loops"]),
)
def test_every_shape_is_the_twins(shape, last, implementation):
    x = torch.randn(shape)
    x = x.to(memory_format=torch.channels_last) if last else x
    ours = BatchNorm2d(shape[1], eps=0.1, implementation=implementation)
    check_twin(ours, torch.nn.BatchNorm2d(shape[1], eps=0.1), x)


@pytest.mark.parametrize("momentum", [0.1, None])
@BOTH
def test_running_statistics_follow_batch_after_batch(momentum, implementation):
    ours, twin = (
        BatchNorm2d(2, momentum=momentum, implementation=implementation),
        torch.nn.BatchNorm2d(2, momentum=momentum),
    )
    for size in (2, 3, 1):
        x = 2 * torch.randn(size, 2, 2, 3) + 1
        with record():
            ours(x)
            ours.backward(None)
        twin(x)
        for name in STATISTICS:
            torch.testing.assert_close(getattr(ours, name), getattr(twin, name))
    x = torch.randn(2, 2, 2, 3)
    torch.testing.assert_close(ours.eval()(x), twin.eval()(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@BOTH
def test_half_precision_is_rounded_once(dtype, implementation):
    x, dy = (torch.randn(2, 2, 3, 3) + 3).to(dtype), torch.randn(2, 2, 3, 3).to(dtype)
    layer, leaf = BatchNorm2d(2, implementation=implementation), x.double().requires_grad_()
    expected = torch.nn.BatchNorm2d(2, dtype=torch.float64)(leaf)
    expected.backward(dy.double())
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    near = {"rtol": torch.finfo(dtype).eps, "atol": 1e-4}
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    torch.testing.assert_close(y.double(), expected.detach(), **near)
    torch.testing.assert_close(dx.double(), leaf.grad, **near)


def test_channels_last_memory_stays_so():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    layer = BatchNorm2d(3)
    with record():
        y = layer(x)
        dx = layer.backward(torch.cos(y))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dx.is_contiguous(memory_format=torch.channels_last)


def test_input_mean_and_scale_are_kept():
    x = torch.randn(4, 3, 8, 8)
    with record() as trace:
        layer = BatchNorm2d(3)
        layer(x)
        (line,) = trace.kept()
        layer.backward(None)
    assert line.bytes == x.numel() * 4 + 2 * 3 * 4


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (2, 2, 4, 4), (2, 3, 4, 4, 4), (1, 3, 1, 1)])
def test_impossible_input(shape):
    with pytest.raises((ValueError, RuntimeError)):
        torch.nn.BatchNorm2d(3)(torch.zeros(shape))
    with pytest.raises(ShapeError, match=r"BatchNorm2d\(3, .*given input of shape"):
        BatchNorm2d(3)(torch.zeros(shape))


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match=r"BatchNorm2d.*given input of torch.uint8, expected floating numbers"):
        BatchNorm2d(3)(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))


def test_unknown_implementation_is_refused():
    with pytest.raises(ValueError, match=r"BatchNorm2d: given implementation='fast', expected"):
        BatchNorm2d(3, implementation="fast")


def test_worked_example():
    x = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])
    dy = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 3.0]]]])
    for implementation in ("vectorized", "loops"):
        layer = BatchNorm2d(1, eps=4.0, implementation=implementation)
        with record():
            y = layer(x)
            dx = layer.backward(dy)
        assert y.flatten().tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
        assert (layer.bias.grad.item(), layer.weight.grad.item()) == pytest.approx((4, 2))
        assert dx.flatten().tolist() == pytest.approx([1 / 6, -5 / 18, -7 / 18, 1 / 2])


def test_compiles_whole():
    layer, eager = BatchNorm2d(3), BatchNorm2d(3)
    x, dy = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)

    def step(model, x, dy):
        with record():
            return model(x), model.backward(dy)

    torch.testing.assert_close(one_graph(step)(layer, x, dy), step(eager, x, dy))
    torch.testing.assert_close(layer.running_var, eager.running_var)
