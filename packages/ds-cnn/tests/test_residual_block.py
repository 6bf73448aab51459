"""Both blocks, against torch.nn's layers put together, and number by number."""

import pytest
import torch
from ds_cnn import BasicBlock, BatchNorm2d, Bottleneck, FrozenBatchNorm2d
from ds_core import Identity, Sigmoid, record
from ds_core.testing import check_layer, check_twin
from torch_resnet import shake, torch_block

BLOCKS = {
    "basic, as it is": lambda: BasicBlock(2, 2),
    "basic, wider": lambda: BasicBlock(2, 3, 2),
    "bottleneck, as it is": lambda: Bottleneck(4, 4),
    "bottleneck, wider": lambda: Bottleneck(3, 5, 2),
    "bottleneck, stride first": lambda: Bottleneck(4, 8, 2, downsample_in_bottleneck=True),
}


@pytest.mark.parametrize("make", BLOCKS.values(), ids=BLOCKS)
def test_layer(make):
    block = shake(make())
    # one value per channel in a training batch is refused by the norm, so the image stays larger than a pixel
    check_layer(block, torch.randn(2, block.conv1.in_channels, 4, 3), batch_dim=None, samples=3)


# a sigmoid keeps its output, so nothing may be added into it
@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, lambda channels, **made: Sigmoid()])
def test_other_norms(norm):
    check_layer(shake(Bottleneck(4, 8, 2, norm=norm)), torch.randn(2, 4, 3, 3), samples=3)
    check_layer(shake(BasicBlock(2, 2, norm=norm)), torch.randn(2, 2, 3, 3), samples=3)


def test_evaluation_mode():
    check_layer(shake(BasicBlock(2, 4, 2)).eval(), torch.randn(2, 2, 3, 3), samples=3)


@pytest.mark.parametrize("in_bottleneck", [False, True])
@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (4, 8, 1), (8, 8, 2), (5, 9, 2)])
def test_twin(layer_type, inputs, outputs, stride, in_bottleneck):
    options = {"downsample_in_bottleneck": in_bottleneck} if layer_type == "bottleneck" else {}
    torch.manual_seed(0)
    ours = {"basic": BasicBlock, "bottleneck": Bottleneck}[layer_type](inputs, outputs, stride, **options)
    torch.manual_seed(0)
    theirs = torch_block(layer_type, inputs, outputs, stride, in_bottleneck)
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())
    check_twin(shake(ours), shake(theirs), torch.randn(3, inputs, 6, 5))


def test_worked_example():
    """Kernels that multiply by one number, norms that do nothing, one channel, two pixels."""
    block = BasicBlock(1, 1, norm=lambda channels, **made: Identity(), dtype=torch.float64)
    with torch.no_grad():
        for convolution, factor in ((block.conv1, 0.5), (block.conv2, 1.5)):
            convolution.weight.zero_()
            convolution.weight[0, 0, 1, 1] = factor
    x = torch.tensor([[[[2.0, -1.0]]]], dtype=torch.float64)
    with record():
        z = block(x)
        dx = block.backward(torch.tensor([[[[1.0, 3.0]]]], dtype=torch.float64))
    assert z.flatten().tolist() == [3.5, 0.0]
    assert dx.flatten().tolist() == [1.75, 0.0]
    assert block.conv1.weight.grad[0, 0, 1, 1] == 3.0
    assert block.conv2.weight.grad[0, 0, 1, 1] == 1.0


def test_used_twice_in_one_forward():
    """Two calls with other inputs and gradients, of one block whose ReLU is itself called twice."""
    block = shake(BasicBlock(3, 3)).double().eval()
    first, second = (torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(2))
    with record():
        ys = block(first), block(second)
        dsecond = block.backward(torch.cos(ys[1]))
        dfirst = block.backward(torch.sin(ys[0]))
    grads = [parameter.grad for parameter in block.parameters()]
    leaves = [tensor.clone().requires_grad_() for tensor in (first, second)]
    block.zero_grad()
    ys = block(leaves[0]), block(leaves[1])
    torch.autograd.backward(ys, (torch.sin(ys[0]).detach(), torch.cos(ys[1]).detach()))
    expected = [leaves[0].grad, leaves[1].grad, *(parameter.grad for parameter in block.parameters())]
    for found, right in zip([dfirst, dsecond, *grads], expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-11)


def test_memory_kept():
    """Each convolution's input and output, and what ReLU gives, which the next convolution keeps too."""
    block, x = BasicBlock(4, 4), torch.randn(2, 4, 8, 8)
    with record() as trace:
        y = block(x)
        kept = sum(line.bytes for line in trace.kept())
        block.backward(y)
    assert kept <= 5 * x.numel() * 4 + 1024  # x, two results of convolutions, two of ReLU; means and deviations


def test_wrong_reduction():
    with pytest.raises(ValueError, match="Bottleneck: given reduction=4, expected 1 to 3"):
        Bottleneck(8, 3)


def test_norms_are_as_many_as_asked_for():
    assert isinstance(BasicBlock(2, 4).downsample[1], BatchNorm2d)
    assert isinstance(BasicBlock(2, 4, norm=FrozenBatchNorm2d).downsample[1], FrozenBatchNorm2d)
