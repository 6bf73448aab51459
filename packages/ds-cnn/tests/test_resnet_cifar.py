"""The residual networks for 32x32, and their shortcut without parameters."""

import pytest
import torch
from ds_cnn import CifarResNet, SubsampledShortcut, resnet20, resnet32, resnet56
from ds_core import SGD, CrossEntropyLoss, ShapeError, no_record, record
from ds_core.testing import check_layer, check_twin
from torch import nn
from torch_resnet import TorchCifarResNet, TorchShortcut, shake


@pytest.mark.parametrize(("channels", "out", "stride"), [(2, 4, 2), (3, 3, 1), (2, 3, 3), (1, 1, 2)])
def test_shortcut(channels, out, stride):
    x = torch.randn(2, channels, 5, 4)
    check_layer(SubsampledShortcut(channels, out, stride), x, samples=4)
    check_twin(SubsampledShortcut(channels, out, stride), TorchShortcut(out - channels, stride), x)


def test_worked_example():
    layer = SubsampledShortcut(1, 2, 2)
    x = torch.tensor([[[[1.5, 2.0, 3.5], [4.0, 5.0, 6.0]]]])
    with record():
        y = layer(x)
        dx = layer.backward(torch.tensor([[[[0.5, -1.0]], [[2.5, 3.0]]]]))
    assert y.tolist() == [[[[1.5, 3.5]], [[0, 0]]]]
    assert dx.tolist() == [[[[0.5, 0, -1.0], [0, 0, 0]]]]


def test_wrong_shortcuts():
    with pytest.raises(ValueError, match="given 4 channels, which do not go into 2"):
        SubsampledShortcut(4, 2, 2)
    with pytest.raises(ShapeError, match=r"SubsampledShortcut\(2, 4, stride=2\): given input of shape \(1, 3, 4, 4\)"):
        SubsampledShortcut(2, 4, 2)(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("make", "millions"),
    [
        (resnet20, 0.27),
        (resnet32, 0.46),
        (lambda **options: CifarResNet(44, **options), 0.66),
        (resnet56, 0.85),
        (lambda **options: CifarResNet(110, **options), 1.7),
    ],
)
def test_number_of_parameters(make, millions):
    """The paper's table 6."""
    count = sum(parameter.numel() for parameter in make(device="meta").parameters())
    assert round(count / 1e6, 1 if millions > 1 else 2) == millions


def test_equals_torch():
    ours, theirs = shake(CifarResNet(14, channels=1)).double(), TorchCifarResNet(14, 1).double()
    theirs.load_state_dict(ours.state_dict())
    check_twin(ours, theirs, torch.randn(2, 1, 8, 8), rtol=1e-8)


def test_ten_steps():
    ours = CifarResNet(8, generator=torch.Generator().manual_seed(0)).double()
    theirs = TorchCifarResNet(8).double()
    theirs.load_state_dict(ours.state_dict())
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}
    steps = SGD(ours.parameters(), **options), torch.optim.SGD(theirs.parameters(), **options)
    criterion = CrossEntropyLoss()
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator)
        y = torch.randint(10, (4,), generator=generator)
        steps[1].zero_grad()
        nn.functional.cross_entropy(theirs(x), y).backward()
        steps[1].step()
        steps[0].zero_grad()
        with record():
            criterion(ours(x), y)
            ours.backward(criterion.backward(), input_gradient=False)
        steps[0].step()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-7, atol=1e-8)


def test_shapes_behind_the_stages():
    model = resnet20(channels=1).eval()
    x = torch.zeros(1, 1, 32, 32)
    shapes = []
    with no_record():
        for layer in model:
            x = layer(x)
            shapes.append(tuple(x.shape[1:]))
    assert shapes[3:6] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert shapes[-1] == (10,)


@pytest.mark.parametrize("depth", [2, 18, 21, 49])
def test_other_depths(depth):
    with pytest.raises(ValueError, match=f"CifarResNet: given depth={depth}, expected 6n"):
        CifarResNet(depth)
