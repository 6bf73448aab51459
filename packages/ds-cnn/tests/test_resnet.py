"""ResNet and its backbone, against a ResNet of torch.nn: outputs, features, gradients, steps, frozen stages."""

import json
from pathlib import Path

import pytest
import torch
from ds_cnn import (
    CONFIGS,
    Conv2d,
    FrozenBatchNorm2d,
    ResNet,
    ResNetBackbone,
    ResNetConfig,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from ds_core import SGD, Adam, CrossEntropyLoss, ShapeError, no_record, primitives_only, record
from ds_core.testing import check_layer, one_graph
from torch_resnet import TorchResNet, shake

BASIC = ResNetConfig("basic", (1, 2, 1, 1), (4, 6, 5, 8), 4)
NARROW = ResNetConfig("bottleneck", (2, 1, 1), (8, 12, 16), 5, 1, downsample_in_first_stage=True)
PAPER = ResNetConfig("bottleneck", (1, 1, 1, 1), (4, 8, 9, 8), 3, downsample_in_bottleneck=True)
TINY = ResNetConfig("basic", (1, 1), (3, 4), 3, 2)
ONE = ResNetConfig("bottleneck", (1,), (4,), 2, 1, downsample_in_first_stage=True)


def pair(config, num_classes=3, seed=0):
    """Ours and theirs with the same weights, in float64."""
    ours = shake(ResNet(config, num_classes, generator=torch.Generator().manual_seed(seed))).double()
    theirs = TorchResNet(config, num_classes).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def images(config, count=3, size=32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, config.num_channels, size, size, dtype=torch.float64, generator=generator)


def same(found, expected, rtol=1e-8):
    """To rtol of the largest number."""
    torch.testing.assert_close(found, expected, rtol=0, atol=rtol * max(1e-5, float(expected.abs().max())))


def same_gradients(ours, theirs):
    expected = {name: tensor.grad for name, tensor in theirs.named_parameters()}
    largest = max(float(grad.abs().max()) for grad in expected.values() if grad is not None)
    for name, tensor in ours.named_parameters():
        if expected.get(name) is None:
            assert tensor.grad is None, name
        else:
            atol = 1e-8 * max(float(expected[name].abs().max()), 1e-5 * largest)
            found = tensor.grad
            torch.testing.assert_close(
                found, expected[name], rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
            )


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("config", [BASIC, NARROW, PAPER])
def test_equals_torch(config, mode):
    ours, theirs = (model.train(mode) for model in pair(config))
    x = images(config)
    leaf = x.clone().requires_grad_()
    expected = theirs(leaf)
    dlogits = torch.cos(expected.detach())
    expected.backward(dlogits)
    with record(), primitives_only():
        logits = ours(x)
        dx = ours.backward(dlogits)
    same(logits, expected.detach())
    same(dx, leaf.grad)
    same_gradients(ours, theirs)
    for name, tensor in theirs.named_buffers():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-9, atol=1e-12)


def test_check_layer():
    check_layer(shake(ResNet(ONE, 2)), torch.randn(2, 1, 9, 8), batch_dim=None, samples=2)


@pytest.mark.parametrize("used", [(0,), (1, 3), (0, 1, 2, 3), (3,), (2,), ()])
def test_features_and_the_gradients_of_any_of_them(used):
    ours, theirs = pair(BASIC)
    backbone = ResNetBackbone(BASIC, dtype=torch.float64)
    backbone.load_state_dict(ours.state_dict(), strict=False)
    x = images(BASIC)
    leaf = x.clone().requires_grad_()
    expected = theirs.features(leaf)
    gradients = [torch.cos(feature.detach()) if index in used else None for index, feature in enumerate(expected)]
    if used:
        torch.autograd.backward([expected[index] for index in used], [gradients[index] for index in used])
    with record():
        features = backbone(x)
        dx = backbone.backward(*gradients[: max(used, default=-1) + 1])  # trailing ones are left out
    assert [feature.shape[-1] for feature in features] == [32 // stride for stride in (4, 8, 16, 32)]
    for found, right in zip(features, expected, strict=True):
        same(found, right.detach())
    if used:
        same(dx, leaf.grad)
        same_gradients(backbone, theirs)
    else:
        assert dx is None
        assert all(parameter.grad is None for parameter in backbone.parameters())


def test_backbone_check_layer():
    check_layer(shake(ResNetBackbone(TINY)).eval(), torch.randn(2, 2, 7, 8), batch_dim=None, samples=2)


def test_too_many_gradients():
    with pytest.raises(TypeError, match="ResNetBackbone of 2 stages: given 3 gradients"):
        ResNetBackbone(TINY).backward(None, None, None)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_frozen_stages(count):
    """The same gradients as torch's with these parts frozen; nothing of them in the trace."""
    ours, theirs = pair(BASIC)
    ours.freeze_stages(count)
    frozen = ("conv1", "bn1", *[f"layer{number}." for number in range(1, count + 1)])
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    x = images(BASIC)
    expected = theirs(x)
    dlogits = torch.cos(expected.detach())
    expected.backward(dlogits)
    with record() as trace:
        logits = ours(x)
        kept = {id(entry.layer) for entry in trace.entries}
        assert ours.backward(dlogits) is None
    same(logits, expected.detach())
    same_gradients(ours, theirs)
    parts = [ours.conv1, ours.bn1, ours.relu, ours.maxpool, *ours.stages[:count]]
    assert not kept & {id(module) for part in parts for module in part.modules()}
    assert kept


def test_frozen_stages_thaw():
    model = ResNet(BASIC, 2)
    assert ResNet(BASIC, 2).frozen_stages is None
    model.freeze_stages(4)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == ["fc.weight", "fc.bias"]
    model.freeze_stages(1)
    assert model.layer2[0].conv1.weight.requires_grad
    model.freeze_stages(None)
    assert all(parameter.requires_grad for parameter in model.parameters())
    for count in (-1, 5):
        with pytest.raises(ValueError, match=f"freeze_stages: given {count} of 4 stages, expected 0 to 4, or None"):
            model.freeze_stages(count)


def test_frozen_stages_under_autograd():
    """The other engine leaves the same parts alone."""
    ours, _ = pair(BASIC)
    ours.freeze_stages(2)
    x = images(BASIC)
    with record():
        ours.backward(torch.cos(ours(x)))
    grads = {name: parameter.grad for name, parameter in ours.named_parameters()}
    ours.zero_grad()
    y = ours(x)
    y.backward(torch.cos(y.detach()))
    for name, parameter in ours.named_parameters():
        assert (parameter.grad is None) == (grads[name] is None)
        if parameter.grad is not None:
            torch.testing.assert_close(grads[name], parameter.grad, rtol=1e-7, atol=1e-9)


def test_no_work_for_an_input_that_wants_no_gradient():
    """Without the input's gradient, parameters get theirs; parts frozen by hand get none, whatever is used."""
    ours, theirs = pair(BASIC)
    for model in (ours, theirs):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(("conv1", "bn1", "layer1", "layer2")))
    x = images(BASIC)
    expected = theirs(x)
    expected.backward(torch.cos(expected.detach()))
    with record():
        assert ours.backward(torch.cos(ours(x)), input_gradient=False) is None
    same_gradients(ours, theirs)


def test_frozen_batch_norm():
    """As torch's in evaluation mode, whatever the mode; its numbers are no parameters."""
    _, theirs = pair(BASIC)
    ours = ResNet(BASIC, 3, norm=FrozenBatchNorm2d, dtype=torch.float64)
    state = {name: tensor for name, tensor in theirs.state_dict().items() if "num_batches" not in name}
    ours.load_state_dict(state)
    for name, parameter in theirs.eval().named_parameters():
        parameter.requires_grad_("bn" not in name and "downsample.1" not in name)
    x = images(BASIC)
    expected = theirs(x)
    expected.backward(torch.cos(expected.detach()))
    with record():
        logits = ours.train()(x)
        ours.backward(torch.cos(logits))
    same(logits, expected.detach())
    same_gradients(ours, theirs)
    assert {name for name, _ in ours.named_parameters()} == {n for n, p in theirs.named_parameters() if p.requires_grad}
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("config", [BASIC, PAPER])
def test_ten_steps(config):
    """SGD with momentum and weight decay, in float64: parameters and statistics go the same way."""
    ours, theirs = pair(config)
    options = {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-3}
    steps = SGD(ours.parameters(), **options), torch.optim.SGD(theirs.parameters(), **options)
    criterion, loss = CrossEntropyLoss(), torch.nn.CrossEntropyLoss()
    for number in range(10):
        x, y = images(config, 4, seed=number), torch.tensor([0, 1, 2, number % 3])
        steps[1].zero_grad()
        loss(theirs(x), y).backward()
        steps[1].step()
        steps[0].zero_grad()
        with record():
            criterion(ours(x), y)
            ours.backward(criterion.backward(), input_gradient=False)
        steps[0].step()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-7, atol=1e-8)


def test_one_batch_is_learned_by_heart():
    model = ResNet(TINY, 4, generator=torch.Generator().manual_seed(0))
    x, y = images(TINY, 8, 16).float(), torch.arange(8) % 4
    optimizer, criterion = Adam(model.parameters(), lr=0.02), CrossEntropyLoss()
    for _ in range(80):
        optimizer.zero_grad()
        with record():
            loss = criterion(model(x), y)
            model.backward(criterion.backward(), input_gradient=False)
        optimizer.step()
    assert float(loss) < 0.02


def test_compiles_whole():
    model = ResNet(ResNetConfig("basic", (1,), (2,), 2, 1), 2)
    # 3x3 instead of the stem's 7x7, whose 49 shifted views take as long to compile as all the rest
    model.conv1 = Conv2d(1, 2, 3, stride=2, padding=1, bias=False)
    model.double()
    x = images(model.config, 2, 8)

    def step(x):
        with record():
            logits = model(x)
            return logits, model.backward(torch.cos(logits))

    model.eval()
    expected = step(x)
    for found, right in zip(one_graph(step)(x), expected, strict=True):
        torch.testing.assert_close(found, right)


KEYS = json.loads((Path(__file__).parent / "torchvision_resnet_keys.json").read_text())


@pytest.mark.parametrize(("name", "make"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_names_and_shapes_are_torchvisions(name, make):
    state = make(device="meta").state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == KEYS[name]
    assert len(state) == {"resnet18": 122, "resnet50": 320}[name]
    assert all(tensor.dtype == torch.int64 for key, tensor in state.items() if key.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    ("make", "count"),
    [(resnet18, 11689512), (resnet34, 21797672), (resnet50, 25557032), (resnet101, 44549160), (resnet152, 60192808)],
)
def test_number_of_parameters(make, count):
    """Those that torchvision's documentation states."""
    model = make(device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    assert model.config == CONFIGS[make.__name__]
    other = make(7, 1, device="meta")
    assert (other.conv1.weight.shape[1], other.fc.weight.shape[0]) == (1, 7)


def test_same_seed_same_weights_as_torchvision():
    """Drawn in torchvision's order, each convolution twice, as there."""
    torch.manual_seed(5)
    ours = ResNet(BASIC, 3)
    torch.manual_seed(5)
    theirs = TorchResNet(BASIC, 3)
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(ResNet(BASIC, 3, generator=generator).fc.weight, ours.fc.weight)


def test_zero_init_residual():
    """Each block hands its input on, so that the features are those of the shortcuts alone."""
    model = ResNet(ResNetConfig("bottleneck", (2,), (8,), 8, 1), 2, zero_init_residual=True)
    assert not model.layer1[0].bn3.weight.any()
    assert not model.layer1[1].bn3.weight.any()
    assert model.layer1[1].bn2.weight.all()
    x = torch.rand(2, 8, 4, 4)
    with no_record():
        assert torch.equal(model.layer1[1](x), x)


def test_wrong_images():
    model = ResNet(TINY, 2)
    for shape in [(2, 3, 8, 8), (2, 8, 8), (2, 2, 8)]:
        with pytest.raises(ShapeError, match="given input of shape"):
            model(torch.zeros(shape))


def test_smallest_images_and_dtypes():
    model = ResNet(BASIC, 2).eval()
    with no_record():
        assert model(torch.zeros(1, 3, 1, 1)).shape == (1, 2)
        assert model(torch.zeros(0, 3, 32, 32)).shape == (0, 2)
    model = ResNet(BASIC, 2).bfloat16()
    with record():
        logits = model(torch.randn(2, 3, 33, 47).bfloat16())
        dx = model.backward(logits)
    assert logits.dtype == dx.dtype == model.conv1.weight.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_type": "wide"}, r"layer_type is 'wide', expected one of \['basic', 'bottleneck'\]"),
        ({"depths": (1, 2)}, "2 depths, but 4 hidden_sizes"),
        ({"depths": ()}, r"depths is \(\), expected a whole number for each stage"),
        ({"depths": (1, 1, 0, 1)}, "depths has 0, expected at least 1"),
        ({"hidden_sizes": (4, 4.5, 4, 4)}, "hidden_sizes has 4.5, expected a whole number"),
        ({"hidden_sizes": (3, 8, 8, 8)}, "a bottleneck needs 4"),
        ({"embedding_size": 0}, "embedding_size has 0"),
        ({"num_channels": True}, "num_channels has True"),
        ({"downsample_in_bottleneck": 1}, "downsample_in_bottleneck is 1, expected True or False"),
    ],
)
def test_impossible_sizes(arguments, message):
    with pytest.raises((ValueError, TypeError), match=f"ResNetConfig: .*{message}"):
        ResNetConfig(**arguments)
