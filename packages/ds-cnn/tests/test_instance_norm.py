"""InstanceNorm1d, 2d and 3d against their twins: all arguments, running averages, unbatched inputs, refusals."""

import warnings

import pytest
import torch
from ds_cnn import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, instance_norm, instance_norm_backward
from ds_core import Recompute, ShapeError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])
CLASSES = [
    (InstanceNorm1d, torch.nn.InstanceNorm1d, (2, 3, 5)),
    (InstanceNorm2d, torch.nn.InstanceNorm2d, (2, 3, 2, 3)),
    (InstanceNorm3d, torch.nn.InstanceNorm3d, (2, 3, 2, 2, 2)),
]
GRID = {
    "num_features": [3],
    "eps": [1e-5, 0.1],
    "momentum": [0.1, None, 0.0, 1.0],
    "affine": [True, False],
    "track_running_stats": [True, False],
    "bias": [True, False],
}


@BOTH
@pytest.mark.parametrize("arguments", [{}, {"affine": True, "track_running_stats": True}])
@pytest.mark.parametrize("training", [True, False])
def test_layer(implementation, arguments, training):
    layer = InstanceNorm2d(2, **arguments, implementation=implementation).train(training)
    check_layer(layer, torch.randn(2, 2, 2, 2) + 1, samples=2)


@pytest.mark.parametrize(("ours", "twin", "shape"), CLASSES)
@pytest.mark.parametrize("batched", [True, False])
def test_twin_over_all_arguments(ours, twin, shape, batched):
    x = 2 * torch.randn(shape if batched else shape[1:]) + 1
    compared = check_twin_grid(ours, twin, GRID, [x], newer=["bias"], thinned=not (batched and ours is InstanceNorm2d))
    assert compared >= (32 if batched and ours is InstanceNorm2d else 8)


@settings(deadline=None, max_examples=20)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(2, 4)),
    last=st.booleans(),
    track=st.booleans(),
    implementation=st.sampled_from(["vectorized", "loops"]),
)
def test_every_shape_is_the_twins(shape, last, track, implementation):
    x = torch.randn(shape)
    x = x.to(memory_format=torch.channels_last) if last else x
    options = {"eps": 0.1, "affine": True, "track_running_stats": track}
    check_twin(
        InstanceNorm2d(shape[1], **options, implementation=implementation),
        torch.nn.InstanceNorm2d(shape[1], **options),
        x,
    )


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics_follow_batch_after_batch(momentum):
    arguments = {"momentum": momentum, "track_running_stats": True}
    ours, twin = InstanceNorm2d(3, **arguments), torch.nn.InstanceNorm2d(3, **arguments)
    for size in (2, 4, 1):
        x = 2 * torch.randn(size, 3, 2, 3) + 1
        with record():
            ours(x)
            ours.backward(None)
        twin(x)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(getattr(ours, name), getattr(twin, name))
    x = torch.randn(2, 3, 2, 3)
    torch.testing.assert_close(ours.eval()(x), twin.eval()(x))
    ours.reset_running_stats()
    assert (ours.running_mean.tolist(), ours.running_var.tolist()) == ([0] * 3, [1] * 3)


def test_recomputation_moves_the_running_averages_once():
    ours, twin = (kind(3, track_running_stats=True) for kind in (InstanceNorm2d, torch.nn.InstanceNorm2d))
    again, x = Recompute(ours), torch.randn(2, 3, 2, 3)
    with record():
        again.backward(again(x))
    twin(x)
    torch.testing.assert_close(ours.running_var, twin.running_var)


def test_evaluation_goes_back_by_the_averages_that_it_went_forward_by():
    layer = InstanceNorm1d(3, track_running_stats=True)
    x, dy = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    with record():
        layer.eval()(x)
        layer.train()(10 * x + 5)
        layer.backward(None)
        dx = layer.backward(dy)
    torch.testing.assert_close(dx, dy / (1 + 1e-5) ** 0.5)


def test_an_empty_batch_leaves_the_running_averages_alone():
    layer = InstanceNorm2d(3, affine=True, track_running_stats=True)
    with record():
        y = layer(torch.zeros(0, 3, 2, 2))
        assert layer.backward(y).shape == (0, 3, 2, 2)
    assert layer.running_var.tolist() == [1, 1, 1]
    assert layer.weight.grad.tolist() == [0, 0, 0]


def test_worked_example():
    x = torch.tensor([[[1.0, 3.0]], [[2.0, 6.0]]])
    dy = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    y, mean, var, rstd = instance_norm(x, torch.tensor([2.0]), torch.tensor([0.5]), eps=0.0)
    assert (mean.flatten().tolist(), var.flatten().tolist(), rstd.flatten().tolist()) == ([2, 4], [1, 4], [1, 0.5])
    assert y.flatten().tolist() == [-1.5, 2.5, -1.5, 2.5]
    _, _, _, rstd = instance_norm(x, None, None, eps=3.0)
    assert rstd.flatten().tolist() == pytest.approx([0.5, 7**-0.5])
    dx, dweight, dbias = instance_norm_backward(dy, x, mean, rstd, torch.tensor([2.0]))
    assert dbias.tolist() == [3]
    assert dweight.tolist() == pytest.approx([-0.5 + 4 / 7**0.5])
    assert dx[0].flatten().tolist() == pytest.approx([0.375, -0.375])
    assert dx[1].flatten().tolist() == pytest.approx([-6 / 7 / 7**0.5, 6 / 7 / 7**0.5])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@BOTH
def test_half_precision_is_rounded_once(dtype, implementation):
    x, dy = (torch.randn(2, 2, 3, 3) + 3).to(dtype), torch.randn(2, 2, 3, 3).to(dtype)
    leaf = x.double().requires_grad_()
    expected = torch.nn.InstanceNorm2d(2, dtype=torch.float64)(leaf)
    expected.backward(dy.double())
    layer = InstanceNorm2d(2, implementation=implementation)
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    near = {"rtol": torch.finfo(dtype).eps, "atol": 1e-4}
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    torch.testing.assert_close(y.double(), expected.detach(), **near)
    torch.testing.assert_close(dx.double(), leaf.grad, **near)


def test_input_mean_and_scale_are_kept():
    x = torch.randn(4, 3, 8, 8)
    with record() as trace:
        layer = InstanceNorm2d(3)
        layer(x)
        (line,) = trace.kept()
        layer.backward(None)
    assert line.bytes == x.numel() * 4 + 2 * 4 * 3 * 4


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 4, 4), (2, 2, 4, 4), (2, 4, 4), (2, 3, 1, 1), (3, 1, 1)], ids=str)
def test_impossible_input(shape):
    with pytest.raises((ValueError, RuntimeError)):
        torch.nn.InstanceNorm2d(3, affine=True)(torch.zeros(shape))
    with pytest.raises(ShapeError, match=r"InstanceNorm2d\(3, .*given input of shape"):
        InstanceNorm2d(3, affine=True)(torch.zeros(shape))


def test_without_weights_another_number_of_channels_gives_a_warning():
    x = torch.randn(2, 4, 3, 3)
    for layer in (InstanceNorm2d(3), torch.nn.InstanceNorm2d(3)):
        with pytest.warns(UserWarning, match="channels|num_features"):
            layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_twin(InstanceNorm2d(3), torch.nn.InstanceNorm2d(3), x)


def test_one_position_will_do_in_evaluation_with_averages():
    ours, twin = (kind(3, track_running_stats=True).eval() for kind in (InstanceNorm2d, torch.nn.InstanceNorm2d))
    x = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(ours(x), twin(x))


def test_integers_and_unknown_implementations_are_refused():
    with pytest.raises(TypeError, match=r"given input of torch\.uint8"):
        InstanceNorm2d(3)(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"InstanceNorm1d: given implementation='fast'"):
        InstanceNorm1d(3, implementation="fast")


@pytest.mark.parametrize("training", [True, False])
def test_compiles_whole(training):
    layer, eager = (InstanceNorm2d(3, affine=True, track_running_stats=True).train(training) for _ in range(2))
    x, dy = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)

    def step(model, x, dy):
        with record():
            return model(x), model.backward(dy)

    torch.testing.assert_close(one_graph(step)(layer, x, dy), step(eager, x, dy))
    torch.testing.assert_close(layer.running_var, eager.running_var)
