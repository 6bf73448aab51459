"""FrozenBatchNorm2d against what torchvision's computes, and models whose batch norms are frozen."""

import random

import pytest
import torch
from ds_cnn import BatchNorm2d, FrozenBatchNorm2d, freeze_batch_norm, unfreeze_batch_norm
from ds_cnn.normalisation.frozen_batch_norm2d import (
    frozen_batch_norm,
    frozen_batch_norm_backward,
    plain_frozen_batch_norm,
    plain_frozen_batch_norm_backward,
)
from ds_core import ReLU, Sequential, ShapeError, SyncBatchNorm, record
from ds_core.testing import check_layer, check_twin, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])


class TheirFrozenBatchNorm2d(torch.nn.Module):
    """torchvision.ops.FrozenBatchNorm2d, without its loading."""

    def __init__(self, num_features, eps=1e-5):
        super().__init__()
        self.eps = eps
        for name, number in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, torch.full((num_features,), float(number)))

    def forward(self, x):
        w, b, rv, rm = (t.reshape(1, -1, 1, 1) for t in (self.weight, self.bias, self.running_var, self.running_mean))
        scale = w * (rv + self.eps).rsqrt()
        return x * scale + (b - rm * scale)


def shaken(layer):
    for tensor in layer.buffers():
        tensor.add_(torch.rand(tensor.shape)) if tensor.is_floating_point() else None
    return layer


@BOTH
@pytest.mark.parametrize("training", [True, False])
def test_layer(implementation, training):
    check_layer(shaken(FrozenBatchNorm2d(2, implementation=implementation)).train(training), torch.randn(2, 2, 2, 3))


def test_sixty_drawn_cases():
    draw = random.Random(0)
    torch.manual_seed(0)
    for _ in range(60):
        channels, eps = draw.randint(1, 4), draw.choice([0.0, 1e-5, 0.1, 1.0])
        x = torch.randn(draw.randint(0, 3), channels, draw.randint(1, 4), draw.randint(1, 4))
        x = x.to(memory_format=draw.choice([torch.contiguous_format, torch.channels_last]))
        ours = FrozenBatchNorm2d(channels, eps, implementation=draw.choice(["vectorized", "loops"]))
        check_twin(ours, TheirFrozenBatchNorm2d(channels, eps), x)


@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    eps=st.sampled_from([0.0, 1e-5, 0.1]),
    last=st.booleans(),
    implementation=st.sampled_from(["vectorized", "loops"]),
)
def test_is_the_twin(shape, eps, last, implementation):
    x = torch.randn(shape)
    x = x.to(memory_format=torch.channels_last) if last else x
    check_twin(
        FrozenBatchNorm2d(shape[1], eps, implementation=implementation), TheirFrozenBatchNorm2d(shape[1], eps), x
    )


def test_worked_example():
    x = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    scale, shift = torch.tensor([1.5, 0.5]), torch.tensor([-0.5, 1.0])
    dy = torch.tensor([[[[2.0, 0.0]], [[1.0, 4.0]]]])
    for forward, backward in [
        (frozen_batch_norm, frozen_batch_norm_backward),
        (plain_frozen_batch_norm, plain_frozen_batch_norm_backward),
    ]:
        assert forward(x, scale, shift).flatten().tolist() == [1.0, 2.5, 2.5, 0.5]
        assert backward(dy, scale).flatten().tolist() == [3.0, 0.0, 0.5, 2.0]
    layer = FrozenBatchNorm2d(2, eps=0.0)
    numbers = {"weight": [3.0, 1.0], "bias": [2.5, 1.5], "running_mean": [2.0, 1.0], "running_var": [4.0, 4.0]}
    layer.load_state_dict({name: torch.tensor(values) for name, values in numbers.items()})
    assert layer(x).flatten().tolist() == [1.0, 2.5, 2.5, 0.5]


def test_nothing_is_trained_and_one_number_a_channel_kept():
    layer = FrozenBatchNorm2d(3)
    assert list(layer.parameters()) == []
    assert list(layer.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with record() as trace:
        y = layer(torch.randn(4, 3, 5, 5))
        (line,) = trace.kept()
        layer.backward(y)
    assert line.bytes == 3 * 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    assert repr(layer) == "FrozenBatchNorm2d(3, eps=1e-05)"


def model(**arguments):
    return Sequential(shaken(BatchNorm2d(3, **arguments)), ReLU(), shaken(BatchNorm2d(3)))


def test_the_count_of_batches_is_passed_over_when_loading():
    frozen = Sequential(FrozenBatchNorm2d(3), ReLU(), FrozenBatchNorm2d(3))
    trained = model()
    frozen.load_state_dict(trained.state_dict())
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(frozen(x), trained.eval()(x))
    FrozenBatchNorm2d(3).load_state_dict(trained[0].state_dict())
    with pytest.raises(ValueError, match="unexpected"):
        frozen.load_state_dict(trained.state_dict() | {"1.num_batches_tracked": torch.tensor(1)})


def test_a_model_is_frozen_and_melted():
    layers, x = model().eval(), torch.randn(2, 3, 4, 4)
    expected = layers(x)
    assert freeze_batch_norm(layers) is layers
    assert list(layers.parameters()) == []
    torch.testing.assert_close(layers.train()(x), expected)
    assert unfreeze_batch_norm(layers) is layers
    assert len(list(layers.parameters())) == 4
    torch.testing.assert_close(layers.eval()(x), expected)
    assert layers[0].eps == 1e-5


def test_a_single_norm_and_one_without_weights_are_frozen():
    for norm in (BatchNorm2d(3, affine=False, dtype=torch.float64), SyncBatchNorm(3, dtype=torch.float64)):
        frozen = freeze_batch_norm(shaken(norm).eval())
        x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
        torch.testing.assert_close(frozen(x), norm(x))
        assert frozen.training is False


def test_a_norm_without_statistics_cannot_be_frozen():
    with pytest.raises(ValueError, match=r"BatchNorm2d\(3, .*no running statistics to freeze"):
        freeze_batch_norm(model(track_running_stats=False))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    x, layer = torch.randn(2, 3, 4, 4).to(dtype), shaken(FrozenBatchNorm2d(3))
    with record():
        y = layer(x)
        dx = layer.backward(x)
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    exact = TheirFrozenBatchNorm2d(3)
    exact.load_state_dict(layer.state_dict())
    torch.testing.assert_close(y.double(), exact.double()(x.double()), rtol=torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 2, 4, 4), (2, 3), (2, 3, 4, 4, 4)])
def test_impossible_input(shape):
    with pytest.raises(ShapeError, match=r"FrozenBatchNorm2d\(3, .*given input of shape .*expected \(N, 3, H, W\)"):
        FrozenBatchNorm2d(3)(torch.zeros(shape))


def test_integers_and_unknown_implementations_are_refused():
    with pytest.raises(TypeError, match=r"given input of torch\.uint8"):
        FrozenBatchNorm2d(3)(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="implementation='fast'"):
        FrozenBatchNorm2d(3, implementation="fast")


def test_compiles_whole():
    layer, x = shaken(FrozenBatchNorm2d(3)), torch.randn(2, 3, 4, 4)

    def step(x):
        with record():
            y = layer(x)
            return y, layer.backward(x)

    torch.testing.assert_close(one_graph(step)(x), step(x))
