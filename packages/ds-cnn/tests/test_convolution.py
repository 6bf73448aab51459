"""The convolution and its gradients as functions: by definition, and by the technique that is chosen."""

import pytest
import torch
from ds_cnn import (
    convolution,
    convolution_backward,
    convolution_bias_gradient,
    convolution_input_gradient,
    convolution_steps,
    convolution_weight_gradient,
    plain_convolution,
    plain_input_gradient,
    plain_weight_gradient,
)
from ds_cnn.convolutions.convolution import IMPLEMENTATIONS
from ds_cnn.convolutions.plain_convolution import plain_bias_gradient, products

IMAGE = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0], [2.0, 1.0, 1.0]]).view(1, 1, 3, 3)
KERNEL = torch.tensor([[1.0, -0.5], [0.5, 2.0]]).view(1, 1, 2, 2)
WINDOW = ((1, 1), (0, 0), (1, 1), 1)


@pytest.mark.parametrize(
    ("forward", "input_gradient", "weight_gradient", "bias_gradient"),
    [
        (convolution, convolution_input_gradient, convolution_weight_gradient, convolution_bias_gradient),
        (plain_convolution, plain_input_gradient, plain_weight_gradient, plain_bias_gradient),
    ],
)
def test_worked_example(forward, input_gradient, weight_gradient, bias_gradient):
    bias, dy = torch.tensor([0.1]), torch.tensor([[1.0, 0.5], [-1.0, 2.0]]).view(1, 1, 2, 2)
    y = forward(IMAGE, KERNEL, bias, *WINDOW)
    torch.testing.assert_close(y, torch.tensor([[2.1, 8.6], [2.6, 2.1]]).view(1, 1, 2, 2))
    dx = input_gradient(dy, KERNEL, (3, 3), *WINDOW)
    expected = torch.tensor([[1.0, 0.0, -0.25], [-0.5, 4.75, 0.0], [-0.5, -1.0, 4.0]])
    torch.testing.assert_close(dx, expected.view(1, 1, 3, 3))
    dweight = weight_gradient(dy, IMAGE, (2, 2), *WINDOW)
    torch.testing.assert_close(dweight, torch.tensor([[4.0, 7.0], [0.5, 3.5]]).view(1, 1, 2, 2))
    assert bias_gradient(dy).tolist() == [2.5]


def test_steps_add_up_to_the_outputs():
    """The last sum at each output is the output, and every product is of two numbers of the window and the filter."""
    x, weight, bias = torch.randn(2, 4, 4, 3), torch.randn(4, 2, 3, 2), torch.randn(4)
    window = ((2, 1), (1, 0), (1, 2), 2)
    y = plain_convolution(x.double(), weight.double(), bias.double(), *window)
    found = torch.full(y.shape, float("nan"), dtype=torch.float64)
    for step in convolution_steps(x.double(), weight.double(), bias.double(), *window):
        found[step.at_y] = step.total
        position = step.at_w[1:]
        assert float(step.window[position] * step.kernel[position]) == step.product
        assert step.window[position] == x.double()[step.at_x]
    torch.testing.assert_close(found, y, rtol=1e-12, atol=1e-12)


def test_windows_show_zeros_in_the_padding():
    first = next(convolution_steps(IMAGE, KERNEL, None, (1, 1), (1, 1), (1, 1)))
    assert first.window.tolist() == [[[0.0, 0.0], [0.0, 1.0]]]
    assert (first.at_y, first.at_x, first.at_w) == ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1, 1))


def test_products_are_as_many_as_the_formula_says():
    counted = sum(1 for _ in products((2, 4, 3, 3), (2, 4, 3, 3), (4, 2, 1, 1), (1, 1), (0, 0), (1, 1), 2))
    assert counted == 2 * 4 * 9 * 2


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True)])
def test_work_not_needed_is_not_done(needs):
    dy = torch.randn(1, 1, 2, 2)
    given = convolution_backward(dy, IMAGE, KERNEL, *WINDOW, needs=needs)
    assert tuple(gradient is not None for gradient in given) == needs
    everything = convolution_backward(dy, IMAGE, KERNEL, *WINDOW)
    for one, other in zip(given, everything, strict=True):
        assert one is None or torch.equal(one, other)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_every_implementation_is_a_convolution(name):
    """A kernel that the technique is made for: 1 x 1 for the pointwise one, groups for those of groups."""
    torch.manual_seed(0)
    kernel, groups = {"pointwise": (1, 1), "depthwise": (3, 4), "merged_groups": (3, 2)}.get(name, (3, 1))
    x, weight = torch.randn(2, 4, 6, 7), torch.randn(4, 4 // groups, kernel, kernel)
    y = IMPLEMENTATIONS[name].forward(x, weight, None, (1, 1), (kernel // 2,) * 2, (1, 1), groups)
    expected = torch.nn.functional.conv2d(x, weight, padding=kernel // 2, groups=groups)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
