import pytest
import torch
from ds_cnn.convolutions.depthwise import (
    depthwise_convolution,
    depthwise_input_gradient,
    depthwise_weight_gradient,
)
from technique_checks import Shapes, channels_last, check_autograd, check_technique, draws

WINDOW = ((1,), (1,), (1,), 2)


def test_against_torch(monkeypatch):
    assert check_technique("depthwise", draws(40, channels_per_group=1), monkeypatch) == 40


def test_autograd_and_double_backward():
    check_autograd("depthwise", Shapes(2, (4, 3), 2, 4, (3, 2), (2, 1), (1, 1), (1, 2), 2))


def test_worked_example():
    x = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]]).view(1, 2, 3)
    weight = torch.tensor([[0.5, 1.0, 2.0], [1.0, 0.0, -1.0]]).view(2, 1, 3)
    dy = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]]).view(1, 2, 3)
    for layout in (torch.clone, channels_last):
        y = depthwise_convolution(layout(x), weight, None, *WINDOW)
        torch.testing.assert_close(y[0], torch.tensor([[5.0, 8.5, 4.0], [-1.0, 1.0, 1.0]]))
        dx = depthwise_input_gradient(layout(dy), weight, (3,), *WINDOW)
        torch.testing.assert_close(dx[0], torch.tensor([[1.0, 1.5, -1.0], [2.0, -0.5, -2.0]]))
        dweight = depthwise_weight_gradient(layout(dy), layout(x), (3,), *WINDOW)
        torch.testing.assert_close(dweight[:, 0], torch.tensor([[-2.0, -2.0, 2.0], [0.0, 2.0, -1.5]]))


@pytest.mark.parametrize("filters", [1, 2])
def test_results_lie_as_the_input_does(filters):
    x, weight = torch.randn(2, 3, 6, 5), torch.randn(3 * filters, 1, 3, 3)
    window = ((1, 1), (1, 1), (1, 1), 3)
    with torch.no_grad():
        first = depthwise_convolution(x, weight, None, *window)
        last = depthwise_convolution(channels_last(x), weight, None, *window)
        assert first.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert depthwise_input_gradient(first, weight, (6, 5), *window).is_contiguous()
        dx = depthwise_input_gradient(last, weight, (6, 5), *window)
        assert dx.is_contiguous(memory_format=torch.channels_last)


def test_more_channels_per_group_do_not_fit():
    with pytest.raises(ValueError, match="depthwise: given weight of shape"):
        depthwise_convolution(torch.zeros(1, 4, 3, 3), torch.zeros(2, 2, 2, 2), None, (1, 1), (0, 0), (1, 1), 2)


def test_half_precision_is_rounded_once():
    x, weight, dy = (torch.randn(shape).bfloat16() for shape in ((8, 4, 16, 16), (4, 1, 5, 5), (8, 4, 16, 16)))
    window = ((1, 1), (2, 2), (1, 1), 4)
    with torch.no_grad():
        found = (
            depthwise_convolution(x, weight, None, *window),
            depthwise_input_gradient(dy, weight, (16, 16), *window),
            depthwise_weight_gradient(dy, x, (5, 5), *window),
        )
        x, weight, dy = x.double(), weight.double(), dy.double()
        expected = (
            depthwise_convolution(x, weight, None, *window),
            depthwise_input_gradient(dy, weight, (16, 16), *window),
            depthwise_weight_gradient(dy, x, (5, 5), *window),
        )
    for result, reference in zip(found, expected, strict=True):
        assert result.dtype == torch.bfloat16
        assert (result.double() - reference).abs().max() / reference.abs().max() < torch.finfo(torch.bfloat16).eps
