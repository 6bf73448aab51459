"""LeNet-5, AlexNet's small cousin and VGG: shapes, numbers of parameters, gradients, what is refused."""

import pytest
import torch
from ds_cnn import SMALL_VGG, VGG, VGG11, VGG13, VGG16, VGG19, AvgPool2d, Conv2d, LeNet5, SmallAlexNet
from ds_core import Adam, CrossEntropyLoss, Linear, Tanh, no_record, primitives_only, record
from torch import nn


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def torch_of(layer):
    """The torch.nn layer of the same name and sizes."""
    kind = type(layer).__name__
    if kind == "Conv2d":
        bias = layer.bias is not None
        return nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding, bias=bias)
    made = {
        "Linear": lambda: nn.Linear(layer.in_features, layer.out_features),
        "BatchNorm2d": lambda: nn.BatchNorm2d(layer.num_features),
        "MaxPool2d": lambda: nn.MaxPool2d(2),
        "AvgPool2d": lambda: nn.AvgPool2d(2),
        "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d(1),
        "Dropout": nn.Identity,
        "Sequential": lambda: nn.Sequential(*[torch_of(part) for part in layer]),
    }
    return made[kind]() if kind in made else getattr(nn, kind)()


MODELS = {
    "lenet": lambda **options: LeNet5(3, 2, 12, **options),
    "lenet of the paper": lambda **options: LeNet5(3, image_size=12, activation=Tanh, pool=AvgPool2d, **options),
    "alexnet": lambda **options: SmallAlexNet(3, 1, 8, shrink=48, dropout=0.0, **options),
    "vgg": lambda **options: VGG((3, "M", 4, 5, "M"), 3, 1, **options),
}
IMAGES = {"lenet": (2, 12), "lenet of the paper": (1, 12), "alexnet": (1, 8), "vgg": (1, 8)}


@pytest.mark.parametrize("name", MODELS)
def test_equals_torch(name):
    ours = MODELS[name](dtype=torch.float64)
    theirs = nn.Sequential(*[torch_of(layer) for layer in ours]).double()
    tensors = list(ours.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
    channels, size = IMAGES[name]
    x = torch.randn(4, channels, size, size, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = theirs(leaf)
    expected.backward(torch.cos(expected.detach()))
    with record(), primitives_only():
        logits = ours(x)
        dx = ours.backward(torch.cos(logits))
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(dx, leaf.grad, rtol=1e-8, atol=1e-10)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_one_batch_is_learned_by_heart(name):
    torch.manual_seed(0)
    model = MODELS[name](generator=torch.Generator().manual_seed(0))
    channels, size = IMAGES[name]
    x, y = torch.randn(6, channels, size, size), torch.arange(6) % 3
    optimizer, criterion = Adam(model.parameters(), lr=0.01), CrossEntropyLoss()
    for _ in range(60):
        optimizer.zero_grad()
        with record():
            loss = criterion(model(x), y)
            model.backward(criterion.backward(), input_gradient=False)
        optimizer.step()
    assert float(loss) < 0.1


@pytest.mark.parametrize("size", [28, 32])
def test_lenet_has_the_papers_sizes(size):
    """Its 61,706 parameters are those of the usual LeNet-5; the paper's 60,000 has a table in C3 instead."""
    model = LeNet5(image_size=size)
    assert count(model) == 61706
    assert model.fc1.in_features == 16 * 5 * 5
    with no_record():
        assert model(torch.zeros(2, 1, size, size)).shape == (2, 10)


@pytest.mark.parametrize("size", [12, 13, 20, 33, 40])
def test_lenet_of_other_sizes(size):
    with no_record():
        assert LeNet5(4, 3, size)(torch.zeros(1, 3, size, size)).shape == (1, 4)


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 8), (1, 28), (3, 37)])
def test_alexnet_of_other_sizes(channels, size):
    model = SmallAlexNet(7, channels, size, shrink=16)
    with no_record():
        assert model(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_alexnet_shrinks_all_widths_alike():
    widths = [layer.out_channels for layer in SmallAlexNet(device="meta") if isinstance(layer, Conv2d)]
    assert widths == [24, 64, 96, 96, 64]
    assert [layer.out_features for layer in SmallAlexNet(device="meta") if isinstance(layer, Linear)] == [
        1024,
        1024,
        10,
    ]


@pytest.mark.parametrize(
    ("configuration", "convolutions"), [(VGG11, 8), (VGG13, 10), (VGG16, 13), (VGG19, 16), (SMALL_VGG, 6)]
)
def test_vgg_has_as_many_layers_as_its_name_says(configuration, convolutions):
    """The name counts the paper's three linear layers, of which one is left."""
    model = VGG(configuration, device="meta")
    assert sum(isinstance(layer, Conv2d) for layer in model.features) == convolutions
    kernels = [layer.weight.shape[2:] for layer in model.features if isinstance(layer, Conv2d)]
    assert set(kernels) == {(3, 3)}


def test_vgg_takes_images_of_any_size():
    model = VGG((4, "M", 4, "M"), 5, 1).eval()
    with no_record():
        for size in (8, 28, 33):
            assert model(torch.zeros(1, 1, size, size + 2)).shape == (1, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeNet5(image_size=11), "LeNet5: given image_size=11, expected at least 12"),
        (lambda: SmallAlexNet(image_size=7), "SmallAlexNet: given image_size=7, expected at least 8"),
        (lambda: SmallAlexNet(shrink=0), "SmallAlexNet: given shrink=0, expected 1 to 96"),
        (lambda: SmallAlexNet(dropout=1.5), "given p=1.5"),
        (lambda: VGG(("M",)), r"VGG: given the configuration \['M'\], expected at least one convolution"),
        (lambda: VGG((8, "P")), "VGG: given 'P' in the configuration, expected a number of filters or 'M'"),
        (lambda: VGG((8, 0)), "VGG: given 0 in the configuration"),
        (lambda: VGG((8, True)), "VGG: given True in the configuration"),
    ],
)
def test_impossible_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_same_seed_same_weights():
    for make in MODELS.values():
        one, other = (make(generator=torch.Generator().manual_seed(3)) for _ in range(2))
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
