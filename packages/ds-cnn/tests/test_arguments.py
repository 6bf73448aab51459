"""Arguments that make no sense are refused when a layer is made, in one sentence that names it; NumPy's numbers do."""

import numpy
import pytest
import torch
from ds_cnn import (
    VGG,
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    CifarResNet,
    ConstantPad1d,
    ConstantPad2d,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FrozenBatchNorm2d,
    InstanceNorm1d,
    InstanceNorm2d,
    LeNet5,
    LocalResponseNorm,
    Normalise,
    PixelShuffle,
    PixelUnshuffle,
    ResNet,
    ResNetBackbone,
    ResNetConfig,
    ResNetForImageClassification,
    SmallAlexNet,
    Upsample,
    ZeroPad2d,
    image_grid,
    interpolate,
    interpolate_backward,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
    stretch_contrast,
    write_image,
)
from ds_cnn.resampling.resampling_options import Options, resampling
from ds_core import ShapeError

TINY = ResNetConfig("basic", (1,), (4,), 4)
WHOLE = "expected a whole number, an int"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalResponseNorm(True), f"LocalResponseNorm: given size=True, {WHOLE}"),
        (lambda: LocalResponseNorm(2.5), f"LocalResponseNorm: given size=2.5, {WHOLE}"),
        (lambda: LocalResponseNorm(2, alpha=None), "LocalResponseNorm: given alpha=None, expected a number"),
        (lambda: LocalResponseNorm(2, beta=True), "LocalResponseNorm: given beta=True, expected a number"),
        (lambda: LocalResponseNorm(2, k="1"), "LocalResponseNorm: given k='1', expected a number"),
        (lambda: AvgPool2d(2, divisor_override=True), f"AvgPool2d: given divisor_override=True, {WHOLE}"),
        (lambda: AvgPool2d(2, divisor_override=2.5), f"AvgPool2d: given divisor_override=2.5, {WHOLE}"),
        (lambda: Dropout1d(True), "Dropout1d: given p=True, expected a number"),
        (lambda: Dropout2d(False), "Dropout2d: given p=False, expected a number"),
        (lambda: Dropout3d(None), "Dropout3d: given p=None, expected a number"),
        (lambda: ConstantPad2d(1, None), "ConstantPad2d: given value=None, expected a number"),
        (lambda: ConstantPad1d(1, "0"), "ConstantPad1d: given value='0', expected a number"),
        (lambda: BatchNorm2d(True), f"BatchNorm2d: given num_features=True, {WHOLE}"),
        (lambda: BatchNorm2d(2, momentum=True), "BatchNorm2d: given momentum=True, expected a number"),
        (lambda: InstanceNorm2d(2.0), f"InstanceNorm2d: given num_features=2.0, {WHOLE}"),
        (lambda: InstanceNorm1d(2, eps="small"), "InstanceNorm1d: given eps='small', expected a number"),
        (lambda: FrozenBatchNorm2d(True), f"FrozenBatchNorm2d: given num_features=True, {WHOLE}"),
        (lambda: FrozenBatchNorm2d(2, eps=None), "FrozenBatchNorm2d: given eps=None, expected a number"),
        (lambda: PixelShuffle(True), f"PixelShuffle: given upscale_factor=True, {WHOLE}"),
        (lambda: PixelUnshuffle("2"), f"PixelUnshuffle: given downscale_factor='2', {WHOLE}"),
        (lambda: Upsample(size=True), "Upsample: given size=True, expected a whole number"),
        (lambda: Upsample(scale_factor=True), "Upsample: given scale_factor=True, expected a number"),
        (lambda: ResNet(TINY, 1.5), f"ResNet: given num_classes=1.5, {WHOLE}"),
        (lambda: ResNet(TINY, True), f"ResNet: given num_classes=True, {WHOLE}"),
        (lambda: CifarResNet(8.0), f"CifarResNet: given depth=8.0, {WHOLE}"),
        (lambda: CifarResNet(8, True), f"CifarResNet: given num_classes=True, {WHOLE}"),
        (lambda: VGG(num_classes=None), f"VGG: given num_classes=None, {WHOLE}"),
        (lambda: VGG(channels=True), f"VGG: given channels=True, {WHOLE}"),
        (lambda: LeNet5(True), f"LeNet5: given num_classes=True, {WHOLE}"),
        (lambda: LeNet5(image_size=28.0), f"LeNet5: given image_size=28.0, {WHOLE}"),
        (lambda: SmallAlexNet(channels=1.0), f"SmallAlexNet: given channels=1.0, {WHOLE}"),
    ],
)
def test_arguments_of_another_kind(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalResponseNorm(0), "LocalResponseNorm: given size=0, expected 1 or more"),
        (lambda: LocalResponseNorm(2, k=float("nan")), "LocalResponseNorm: given k=nan, expected a finite number"),
        (lambda: BatchNorm2d(-1), "BatchNorm2d: given num_features=-1, expected 0 or more"),
        (lambda: InstanceNorm1d(-2), "InstanceNorm1d: given num_features=-2, expected 0 or more"),
        (lambda: FrozenBatchNorm2d(-1), "FrozenBatchNorm2d: given num_features=-1, expected 0 or more"),
        (lambda: AdaptiveAvgPool2d(True), "AdaptiveAvgPool2d: output_size: given True, expected one whole number"),
        (lambda: AdaptiveAvgPool1d(2.0), "AdaptiveAvgPool1d: output_size: given 2.0, expected one whole number"),
        (lambda: ZeroPad2d(True), "ZeroPad2d: padding: given True, expected one int"),
        (lambda: Dropout2d(float("nan")), "Dropout2d: given p=nan, expected a probability between 0 and 1"),
        (lambda: Dropout3d(2), "Dropout3d: given p=2, expected a probability between 0 and 1"),
        (lambda: ResNet(TINY, -1), "ResNet: given num_classes=-1, expected 1 or more"),
        (lambda: LeNet5(0), "LeNet5: given num_classes=0, expected 1 or more"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


ONE, TWO = numpy.int64(1), numpy.int32(2)


@pytest.mark.parametrize(
    ("make", "twin"),
    [
        (lambda: PixelShuffle(TWO), lambda: torch.nn.PixelShuffle(2)),
        (lambda: PixelUnshuffle(TWO), lambda: torch.nn.PixelUnshuffle(2)),
        (lambda: Upsample(TWO), lambda: torch.nn.Upsample(2)),
        (lambda: Upsample((TWO, 3), mode="bilinear"), lambda: torch.nn.Upsample((2, 3), mode="bilinear")),
        (
            lambda: Upsample(scale_factor=(numpy.float32(1.5), TWO), mode="bicubic"),
            lambda: torch.nn.Upsample(scale_factor=(1.5, 2), mode="bicubic"),
        ),
        (lambda: LocalResponseNorm(TWO), lambda: torch.nn.LocalResponseNorm(2)),
        (lambda: AvgPool2d(TWO, divisor_override=TWO), lambda: torch.nn.AvgPool2d(2, divisor_override=2)),
        (lambda: AdaptiveAvgPool2d((TWO, None)), lambda: torch.nn.AdaptiveAvgPool2d((2, None))),
        (lambda: ConstantPad2d(ONE, numpy.float32(0.5)), lambda: torch.nn.ConstantPad2d(1, 0.5)),
        (lambda: BatchNorm2d(numpy.int64(4)), lambda: torch.nn.BatchNorm2d(4)),
        (lambda: InstanceNorm2d(numpy.int64(4)), lambda: torch.nn.InstanceNorm2d(4)),
    ],
)
def test_numpys_numbers(make, twin):
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(make()(x), twin()(x), rtol=1e-5, atol=1e-5)


def test_numpys_numbers_become_pythons():
    """A step in NumPy's float32 would place all positions as coarsely."""
    (axis,) = resampling("layer", (6,), Options(scale_factor=numpy.float32(1.5), mode="linear")).axes
    assert type(axis.step) is float
    (axis,) = resampling("layer", (6,), Options(size=TWO, mode="linear")).axes
    assert type(axis.count) is int


def test_a_border_of_infinity_or_of_true():
    x = torch.zeros(1, 1, 2)
    assert ConstantPad1d(1, float("-inf"))(x).tolist() == [[[float("-inf"), 0, 0, float("-inf")]]]
    assert ConstantPad1d((1, 0), True)(x.bool()).tolist() == [[[True, False, False]]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interpolate([1], size=2), r"interpolate: given input = \[1\], a list, expected a torch.Tensor"),
        (lambda: interpolate_backward(None, (2,), size=2), "interpolate_backward: given dy = None, expected a torch"),
        (lambda: pad(None, (1, 1)), "pad: given x = None, expected a torch.Tensor"),
        (lambda: pixel_shuffle([1], 2), r"pixel_shuffle: given x = \[1\], a list"),
        (lambda: pixel_unshuffle(1, 2), "pixel_unshuffle: given x = 1, a int"),
        (lambda: pixel_shuffle(torch.zeros(4, 1, 1), 2.0), f"pixel_shuffle: given factor=2.0, {WHOLE}"),
        (lambda: image_grid([1], 1), r"image_grid: given images = \[1\], a list"),
        (lambda: stretch_contrast(None), "stretch_contrast: given images = None"),
        (lambda: write_image("a.png", None), "write_image: given image = None"),
        (lambda: Normalise([0.0], [1.0])(None), "Normalise: given images = None"),
    ],
)
def test_functions_without_a_tensor(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pixel_shuffle(torch.zeros(1, 3, 2, 2), 2), r"pixel_shuffle: .*with C divisible by 4"),
        (lambda: pixel_unshuffle(torch.zeros(1, 3, 2, 3), 2), r"pixel_unshuffle: .*with H and W divisible by 2"),
        (lambda: pad(torch.zeros(1, 2), (1, 1), "mirror"), "pad: given mode='mirror', expected one of constant, ref"),
        (lambda: pad(torch.zeros(1, 2), (1,)), r"pad: given padding=\(1,\) for shape \(1, 2\), expected two numbers"),
        (lambda: pad(torch.zeros(2), (1, 1, 1, 1)), r"pad: given padding=\(1, 1, 1, 1\) for shape \(2,\)"),
        (lambda: interpolate(torch.zeros(2, 2), 2, mode="cubic"), "interpolate: given mode='cubic', expected one of"),
    ],
)
def test_functions_with_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def resnet():
    return ResNet(TINY, 2)


@pytest.mark.parametrize(
    ("make", "name", "channels"),
    [
        (resnet, "ResNet", 3),
        (lambda: ResNetForImageClassification(resnet()), "ResNet", 3),
        (lambda: ResNetBackbone(TINY), "ResNetBackbone", 3),
        (lambda: CifarResNet(8), "CifarResNet", 3),
        (lambda: VGG((2,)), "VGG", 3),
        (lambda: SmallAlexNet(shrink=48), "SmallAlexNet", 3),
        (LeNet5, "LeNet5", 1),
    ],
)
def test_networks_say_what_an_image_is(make, name, channels):
    network, expected = make(), rf"expected a batch of images \(N, {channels}, H, W\)"
    with pytest.raises(ShapeError, match=rf"^{name}: given input of shape \({channels}, 32, 32\), {expected}: add the"):
        network(torch.zeros(channels, 32, 32))
    with pytest.raises(ShapeError, match=rf"^{name}: given input of shape \(1, 2, 32, 32\), {expected}$"):
        network(torch.zeros(1, 2, 32, 32))
    with pytest.raises(TypeError, match=r"expected a torch\.Tensor"):
        network([1])
