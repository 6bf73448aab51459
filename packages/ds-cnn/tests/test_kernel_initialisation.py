"""Fans counted from products, and measured from variances."""

import itertools
import math

import pytest
import torch
from ds_cnn import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, convolution_fans, initialise_kernels
from ds_core import Linear, ReLU, Sequential, record

LAYERS = [
    lambda: Conv1d(4, 6, 5),
    lambda: Conv2d(4, 6, 3, stride=2, groups=2),
    lambda: Conv2d(6, 6, (3, 2), stride=(2, 1), groups=6, dilation=2),
    lambda: Conv2d(4, 8, 1, stride=3),
    lambda: Conv3d(2, 3, 2, stride=(1, 2, 1)),
    lambda: ConvTranspose1d(4, 6, 3, stride=2),
    lambda: ConvTranspose2d(4, 6, 4, stride=2, groups=2),
    lambda: ConvTranspose2d(6, 3, (2, 5), stride=(3, 2), groups=3, dilation=(1, 2)),
]


@pytest.mark.parametrize("make", LAYERS)
def test_fans_count_products(make):
    """With kernels of ones each output is the number of products it sums; so is each input's gradient."""
    layer = make().double()
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.bias.zero_()
    x = torch.ones(1, layer.in_channels, *[60 if layer.axes < 3 else 24] * layer.axes, dtype=torch.float64)
    with record():
        y = layer(x)
        dx = layer.backward(torch.ones_like(y))
    found = []
    for tensor, steps in ((y, layer.stride if layer.transposed else (1,) * layer.axes), (dx, layer.stride)):
        middle = tensor
        for axis, step in enumerate(steps, start=2):  # a whole number of strides, so that every residue counts as often
            middle = middle.narrow(axis, tensor.shape[axis] // 2 - step, 2 * step)
        found.append(float(middle.mean()))
    assert found == pytest.approx(convolution_fans(layer), rel=1e-12)


@pytest.mark.parametrize("make", [LAYERS[index] for index in (1, 6, 7)])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
def test_mean_square_is_kept(make, mode):
    """Forward with fan_in, backward with fan_out, measured over many kernels."""
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for _ in range(30):
        layer = initialise_kernels(make(), "linear", mode, generator=generator)
        x = torch.randn(1, layer.in_channels, 26, 26, generator=generator)
        with record():
            y = layer(x)
            dy = torch.randn(y.shape, generator=generator)
            dx = layer.backward(dy)
        result, source = (y, x) if mode == "fan_in" else (dx, dy)
        # the middle, where no border is felt: a whole number of strides, so that every residue counts as often
        middle = result
        for axis in (2, 3):
            middle = middle.narrow(axis, result.shape[axis] // 2 - 3, 6)
        ratios.append(float((middle**2).mean() / (source**2).mean()))
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.12)


def test_signal_survives_twenty_layers():
    """Down and up again through strided layers with ReLU: the mean square stays near that of the input."""
    generator = torch.Generator().manual_seed(1)
    layers = []
    for _ in range(10):
        layers += [Conv2d(24, 24, 4, stride=2, padding=1, bias=False), ReLU()]
        layers += [ConvTranspose2d(24, 24, 4, stride=2, padding=1, bias=False), ReLU()]
    model = initialise_kernels(Sequential(*layers), generator=generator)
    x = torch.randn(2, 24, 32, 32, generator=generator)
    with torch.no_grad():
        kept = float((model(x) ** 2).mean())
    with torch.no_grad():
        for layer in layers[::2]:
            # what torch counts is four times as much for the transposed ones, so a quarter of the variance
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        counted_by_shape = float((model(x) ** 2).mean())
    assert 1e-2 < kept < 1e2
    assert counted_by_shape < 1e-3 * kept


def test_worked_example():
    transposed = ConvTranspose2d(8, 6, 3, stride=2, groups=2)
    assert transposed.weight.shape == (8, 3, 3, 3)
    fans = convolution_fans(transposed)
    assert fans == (9, 27)
    assert math.sqrt(2 / fans[0]) == pytest.approx(0.4714, abs=5e-5)
    assert math.sqrt(2 / fans[1]) == pytest.approx(0.2722, abs=5e-5)
    assert math.sqrt(2 / ((fans[0] + fans[1]) / 2)) == pytest.approx(0.3333, abs=5e-5)
    assert torch.nn.init._calculate_fan_in_and_fan_out(transposed.weight) == (27, 72)
    with torch.no_grad():
        transposed.weight.fill_(1)
        transposed.bias.zero_()
        sums = transposed(torch.ones(1, 8, 9, 9))[0, 0, 8:10, 8:10]
    assert sorted(sums.reshape(-1).tolist()) == [4, 8, 8, 16]
    assert convolution_fans(Conv2d(8, 6, 3, stride=2, groups=2)) == (36, 6.75)


def test_standard_deviations():
    for mode, distribution in itertools.product(["fan_in", "fan_out", "fan_average"], ["normal", "uniform"]):
        layer = ConvTranspose2d(64, 32, 4, stride=2, groups=2)
        initialise_kernels(layer, "leaky_relu", mode, slope=0.2, distribution=distribution)
        fan_in, fan_out = convolution_fans(layer)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_average": (fan_in + fan_out) / 2}[mode]
        expected = math.sqrt(2 / (1 + 0.2**2) / fan)
        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.05)
        if distribution == "uniform":
            assert float(layer.weight.detach().abs().max()) <= math.sqrt(3) * expected
        assert not layer.bias.any()


def test_only_convolutions_that_are_trained():
    model = Sequential(Conv2d(1, 2, 3), ReLU(), Linear(4, 4), Conv2d(2, 2, 3))
    model[3].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert initialise_kernels(model) is model
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"0.weight", "0.bias"}


def test_generator_decides():
    one, other = (
        initialise_kernels(Conv2d(2, 2, 3), generator=torch.Generator().manual_seed(3)).weight for _ in range(2)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "fan_inn"}, r"given mode='fan_inn', expected one of .*did you mean fan_in"),
        ({"distribution": "gauss"}, "given distribution='gauss', expected one of"),
        ({"nonlinearity": "rellu"}, "did you mean relu"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        initialise_kernels(Conv2d(1, 1, 3), **arguments)


def test_fans_of_another_layer():
    with pytest.raises(TypeError, match=r"convolution_fans: given Linear.*expected a convolution"):
        convolution_fans(Linear(2, 2))
