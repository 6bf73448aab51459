"""The transposed convolution as a pair of functions."""

import pytest
import torch
from ds_cnn.convolutions.transposed_convolution import TRANSPOSED_IMPLEMENTATIONS
from ds_core import primitives_only

BOTH = pytest.mark.parametrize("implementation", TRANSPOSED_IMPLEMENTATIONS)


@BOTH
def test_worked_example(implementation):
    forward, backward = TRANSPOSED_IMPLEMENTATIONS[implementation]
    x, weight = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[2.0, 0.5]]])
    assert forward(x, weight, None, (1,), (0,), (0,), 1, (1,)).tolist() == [[[2.0, 6.5, 1.5]]]
    assert forward(x, weight, None, (2,), (0,), (0,), 1, (1,)).tolist() == [[[2.0, 0.5, 6.0, 1.5]]]
    dx, dweight, dbias = backward(torch.tensor([[[1.0, -1.0, 2.0]]]), x, weight, (1,), (0,), 1, (1,))
    assert (dx.tolist(), dweight.tolist(), dbias.tolist()) == ([[[1.5, -1.0]]], [[[-2.0, 5.0]]], [2.0])
    second_stamp = x[0, 0, 1] * weight
    assert second_stamp.tolist() == [[[6.0, 1.5]]]


@BOTH
def test_it_is_the_gradient_of_a_convolution(implementation):
    """<T x, z> = <x, C z> for the convolution C with the same weight: transposed means just that."""
    forward, backward = TRANSPOSED_IMPLEMENTATIONS[implementation]
    x, weight = torch.randn(1, 2, 2, 2, dtype=torch.float64), torch.randn(2, 3, 2, 3, dtype=torch.float64)
    window = ((2, 1), (0, 1))
    y = forward(x, weight, None, *window, (1, 0), 1, (1, 1))
    z = torch.randn_like(y)
    convolved = torch.nn.functional.conv2d(z, weight, None, *window)
    torch.testing.assert_close((y * z).sum(), (x * convolved).sum())
    dx, _, _ = backward(z, x, weight, *window, 1, (1, 1))
    torch.testing.assert_close(dx, convolved)


def test_primitives_only():
    forward, backward = TRANSPOSED_IMPLEMENTATIONS["vectorized"]
    x, weight = torch.randn(1, 2, 2, 2), torch.randn(2, 3, 2, 3)
    with torch.no_grad(), primitives_only():
        y = forward(x, weight, None, (2, 2), (0, 1), (1, 0), 1, (1, 1))
        backward(y, x, weight, (2, 2), (0, 1), 1, (1, 1))
