"""Grad-CAM, and the tap that it is made with."""

import pytest
import torch
from ds_cnn import (
    VGG,
    AdaptiveAvgPool2d,
    AvgPool2d,
    CifarResNet,
    Conv2d,
    grad_cam,
    last_convolution,
    layer_named,
    tapped,
)
from ds_cnn.networks.grad_cam import weighted_maps
from ds_core import (
    Flatten,
    Frozen,
    Identity,
    Linear,
    Module,
    ReLU,
    Sequential,
    ShapeError,
    TraceError,
    primitives_only,
    record,
)
from torch import nn


def mean_and_linear(weight):
    head = Linear(weight.shape[1], weight.shape[0], bias=False)
    head.weight.data.copy_(weight)
    return {"pool": AdaptiveAvgPool2d(1), "flatten": Flatten(), "head": head}


def test_worked_example():
    maps = torch.tensor([[[[1.0, 2], [0, 1]], [[0, 1], [3, 0]]]])
    weight = torch.tensor([[2.0, -1], [0, 0.5]])
    model = Sequential({"features": AvgPool2d(2), **mean_and_linear(weight)})
    images = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)  # 4 x 4, which the pooling makes 2 x 2 again
    found = grad_cam(model, images, layer="features")
    assert found.logits.tolist() == [[1, 0.5]]
    assert found.classes.tolist() == [0]
    assert found.weights.tolist() == [[0.5, -0.25]]
    assert 0.5 * 0 - 0.25 * 3 == -0.75
    assert found.coarse.tolist() == [[[0.5, 0.75], [0, 0.5]]]
    first_row = torch.tensor([0.5, 0.5625, 0.6875, 0.75])
    torch.testing.assert_close(found.heat[0, 0], first_row / 0.75)
    torch.testing.assert_close(found.heat[0, 0], torch.tensor([2 / 3, 3 / 4, 11 / 12, 1]))
    second = grad_cam(model, images, torch.tensor([1]), layer="features")
    assert second.weights.tolist() == [[0, 0.125]]
    assert second.heat[0].argmax() in (8, 12)  # one of the pixels of the lower left
    assert second.heat[0, 2:, :2].min() > second.heat[0, :2].max()


def torch_grad_cam(model, layer, images, classes):
    """The same by PyTorch's hooks and autograd, as the usual implementations have it."""
    kept = {}
    with layer.register_forward_hook(lambda module, inputs, output: kept.update(maps=output)):
        logits = model(images)
    chosen = logits.gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, kept["maps"])
    coarse = (gradient.mean((2, 3), keepdim=True) * kept["maps"]).sum(1, keepdim=True).relu()
    over = nn.functional.interpolate(coarse, size=images.shape[2:], mode="bilinear")
    return coarse.squeeze(1), over.squeeze(1) / over.amax((2, 3)).clamp_min(1e-300).view(-1, 1, 1)


@pytest.mark.parametrize("name", ["0", "2", "3", "5"])
def test_it_is_what_autograd_gives(name):
    theirs = nn.Sequential(
        *(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(5, 7, 3), nn.BatchNorm2d(7), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(28, 6)),
    ).double()
    from ds_cnn import BatchNorm2d

    ours = Sequential(
        *(Conv2d(3, 5, 3, padding=1), ReLU(), AvgPool2d(2), Conv2d(5, 7, 3), BatchNorm2d(7), ReLU()),
        *(AdaptiveAvgPool2d(2), Flatten(), Linear(28, 6)),
    ).double()
    ours.load_state_dict(theirs.state_dict())
    images, classes = torch.randn(4, 3, 9, 11, dtype=torch.float64), torch.tensor([0, 5, 2, 2])
    coarse, heat = torch_grad_cam(theirs.eval(), theirs[int(name)], images, classes)
    with primitives_only():
        found = grad_cam(ours, images, classes, layer=name)
    torch.testing.assert_close(found.coarse, coarse, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found.heat, heat, rtol=1e-10, atol=1e-12)
    predicted = grad_cam(ours, images, layer=name)
    assert predicted.classes.tolist() == predicted.logits.argmax(1).tolist()


def test_the_map_of_a_mean_and_a_linear_layer_divides_the_logit():
    model = VGG((4, "M", 6), 3, 1).double().eval()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    found = grad_cam(model, images, layer="features")
    weight, bias = model.classifier.weight.detach(), model.classifier.bias.detach()
    torch.testing.assert_close(found.weights, weight[found.classes] / 16)
    with tapped(model.features) as tap:
        logits = model(images)
    divided = (found.weights[:, :, None, None] * tap.outputs[0].detach()).sum((1, 2, 3))
    expected = logits.detach().gather(1, found.classes[:, None]).squeeze(1) - bias[found.classes]
    torch.testing.assert_close(divided, expected)


def test_the_network_stays_as_it_was():
    model = CifarResNet(8, 3, 1)
    model.layer1.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = [name for name, _ in model.named_modules()]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    found = grad_cam(model, torch.randn(2, 1, 8, 8), layer="layer3")
    assert found.heat.shape == (2, 8, 8)
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    assert [name for name, _ in model.named_modules()] == names
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.fc.weight.grad.eq(1).all()
    assert all(p.grad is None for p in model.parameters() if p is not model.fc.weight)
    assert not {"forward", "backward"} & set(vars(model.layer3))
    with pytest.raises(ValueError, match="no layer"):
        grad_cam(model, torch.randn(2, 1, 8, 8), layer="layer4")


def test_the_layer_by_default_is_the_last_convolution():
    model = VGG((4, "M", 6), 3, 1)
    assert last_convolution(model) == "features.4"
    images = torch.randn(1, 1, 8, 8)
    assert torch.equal(grad_cam(model, images).coarse, grad_cam(model, images, layer="features.4").coarse)
    with pytest.raises(ValueError, match="no Conv2d in it, so name a layer"):
        grad_cam(Sequential(Flatten(), Linear(4, 2)), torch.randn(1, 1, 2, 2))


def test_nothing_speaks_for_the_class():
    model = Sequential({"features": Identity(), **mean_and_linear(torch.tensor([[-1.0], [-2.0]]))})
    found = grad_cam(model, torch.ones(1, 1, 2, 2), layer="features")
    assert found.heat.eq(0).all()
    weights, coarse = weighted_maps(torch.ones(1, 2, 2, 2), torch.full((1, 2, 2, 2), -0.5))
    assert weights.eq(-0.5).all()
    assert coarse.eq(0).all()


def test_half_precision():
    model = VGG((4, "M", 6), 3, 1).to(torch.bfloat16)
    found = grad_cam(model, torch.randn(2, 1, 8, 8, dtype=torch.bfloat16), layer="features")
    assert found.weights.dtype == found.heat.dtype == torch.float32
    assert found.heat.amax((1, 2)).le(1).all()


class Twice(Module):
    def __init__(self):
        self.layer, self.head = Conv2d(2, 2, 1), Flatten()

    def forward(self, input):
        return self.head.forward(self.layer.forward(self.layer.forward(input)))

    def backward(self, dy):
        return self.layer.backward(self.layer.backward(self.head.backward(dy)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": "featurs"}, ValueError, "did you mean features"),
        ({"layer": ""}, ValueError, "no layer ''"),
        ({"layer": "classifier"}, ShapeError, r"the layer classifier gives \(2, 3\), expected feature maps"),
        ({"classes": torch.tensor([1])}, ShapeError, "expected one for each image"),
        ({"classes": torch.tensor([1, 3])}, ValueError, "given the classes 1 to 3, expected 0 to 2"),
        ({"classes": torch.tensor([-1, 1])}, ValueError, "given the classes -1 to 1, expected 0 to 2"),
    ],
)
def test_what_cannot_be_asked(arguments, error, message):
    model = VGG((4,), 3, 1)
    with pytest.raises(error, match=message):
        grad_cam(model, torch.randn(2, 1, 4, 4), **arguments)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any({"forward", "backward"} & set(vars(module)) for module in model.modules())


def test_a_layer_that_is_called_twice():
    with pytest.raises(ValueError, match="the layer layer is called 2 times in a pass, expected once"):
        grad_cam(Twice(), torch.randn(1, 2, 1, 1), layer="layer")


def test_a_layer_in_a_frozen_part():
    model = Sequential({"body": Frozen(Conv2d(1, 2, 1)), **mean_and_linear(torch.ones(2, 2))})
    with pytest.raises(ValueError, match=r"no gradient comes back to the layer body\.layer, which is in a frozen part"):
        grad_cam(model, torch.randn(1, 1, 2, 2))
    assert grad_cam(model, torch.randn(1, 1, 2, 2), layer="body").heat.shape == (1, 2, 2)


def test_a_tap_sees_every_call_and_ends_the_pass():
    model = Twice()
    x = torch.randn(3, 2, 1, 1)
    with tapped(model.layer) as tap, record():
        y = model(x)
        assert model.backward(torch.ones_like(y)) is None
    assert len(tap.outputs) == 2
    assert torch.equal(tap.outputs[1].flatten(1), y)
    # the first call's gradient would have come through the second's backward, where it ends
    assert tap.gradients[0] is None
    assert tap.gradients[1].eq(1).all()
    assert model.layer.weight.grad is None
    assert layer_named(model, "layer") is model.layer
    with record(), pytest.raises(TraceError):
        model.backward(torch.ones_like(y))
