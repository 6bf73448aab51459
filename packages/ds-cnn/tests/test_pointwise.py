import pytest
import torch
from ds_cnn.convolutions.pointwise import (
    pointwise_convolution,
    pointwise_input_gradient,
    pointwise_weight_gradient,
)
from technique_checks import Shapes, channels_last, check_autograd, check_technique, draws

WINDOW = ((1, 1), (0, 0), (1, 1), 1)


def test_against_torch(monkeypatch):
    assert check_technique("pointwise", draws(40, kernel_size=1, padding=0, groups=1), monkeypatch) == 40


@pytest.mark.parametrize("stride", [1, 2])
def test_autograd_and_double_backward(stride):
    check_autograd("pointwise", Shapes(2, (4, 3), 2, 3, (1, 1), (stride,) * 2, (0, 0), (1, 1), 1))


def test_worked_example():
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).view(1, 2, 1, 2)
    weight = torch.tensor([[0.5, 1.0]]).view(1, 2, 1, 1)
    dy = torch.tensor([[2.0, -1.0]]).view(1, 1, 1, 2)
    for layout in (torch.clone, channels_last):
        y = pointwise_convolution(layout(x), weight, torch.tensor([0.1]), *WINDOW)
        torch.testing.assert_close(y.flatten(), torch.tensor([3.6, 0.1]))
        dx = pointwise_input_gradient(layout(dy), weight, (1, 2), *WINDOW)
        torch.testing.assert_close(dx.view(2, 2), torch.tensor([[1.0, -0.5], [2.0, -1.0]]))
        dweight = pointwise_weight_gradient(layout(dy), layout(x), (1, 1), *WINDOW)
        assert dweight.flatten().tolist() == [0.0, 7.0]


def test_results_lie_as_the_input_does():
    x, weight = torch.randn(2, 3, 4, 5), torch.randn(6, 3, 1, 1)
    with torch.no_grad():
        for stride in ((1, 1), (2, 2)):
            window = (stride, (0, 0), (1, 1), 1)
            first = pointwise_convolution(x, weight, None, *window)
            last = pointwise_convolution(channels_last(x), weight, None, *window)
            assert first.is_contiguous()
            assert last.is_contiguous(memory_format=torch.channels_last)
            dx = pointwise_input_gradient(first, weight, (4, 5), *window)
            assert dx.is_contiguous()
            dx = pointwise_input_gradient(last, weight, (4, 5), *window)
            assert dx.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("kernel_size", "padding", "groups"), [((2, 1), (0, 0), 1), ((1, 1), (1, 0), 1), ((1, 1), (0, 0), 2)]
)
def test_what_does_not_fit(kernel_size, padding, groups):
    weight = torch.zeros(2, 2 // groups, *kernel_size)
    with pytest.raises(ValueError, match="pointwise: given kernel_size"):
        pointwise_convolution(torch.zeros(1, 2, 3, 3), weight, None, (1, 1), padding, (1, 1), groups)


def test_weight_gradient_in_half_precision():
    """The sum over the images is taken in float32."""
    x, dy = torch.randn(64, 4, 3, 3).bfloat16(), torch.randn(64, 5, 3, 3).bfloat16()
    with torch.no_grad():
        found = pointwise_weight_gradient(dy, x, (1, 1), *WINDOW)
        expected = pointwise_weight_gradient(dy.double(), x.double(), (1, 1), *WINDOW)
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).abs().max() / expected.abs().max() < 2 * torch.finfo(torch.bfloat16).eps
