from fractions import Fraction

import pytest
import torch
from ds_cnn import TECHNIQUES
from ds_cnn.convolutions.im2col import im2col_convolution
from ds_cnn.convolutions.winograd import (
    winograd_2x2_convolution,
    winograd_2x2_input_gradient,
    winograd_2x2_weight_gradient,
    winograd_4x4_convolution,
    winograd_4x4_weight_gradient,
)
from ds_cnn.convolutions.winograd_transforms import (
    MATRICES,
    both_axes,
    winograd_matrices,
)
from technique_checks import Shapes, check_autograd, check_technique, draws

WINDOW = ((1, 1), (1, 1), (1, 1), 1)
BOTH = pytest.mark.parametrize("tile", [2, 4])


@BOTH
def test_against_torch(tile, monkeypatch):
    """In float64 its errors are a few hundred roundings: 1e-11 holds both tile sizes on every processor."""
    shapes = draws(40, axes=2, kernel_size=3, stride=1, dilation=1, groups=1, most_padding=2)
    assert check_technique(f"winograd_{tile}x{tile}", shapes, monkeypatch, tolerance=1e-11) == 40


@BOTH
def test_autograd_and_double_backward(tile):
    check_autograd(f"winograd_{tile}x{tile}", Shapes(1, (5, 4), 2, 2, (3, 3), (1, 1), (1, 0), (1, 1), 1))


@BOTH
def test_matrices_give_the_convolution_exactly(tile):
    """y = A^T (G w * B^T x) as an identity of fractions, for every unit vector w and x."""
    matrices = winograd_matrices(tile)
    exact = [[[Fraction(number).limit_denominator(1000) for number in row] for row in rows] for rows in matrices]
    inputs, kernel, outputs = exact
    points = range(tile + 2)
    for i in range(tile):
        for j in range(3):
            for k in range(tile + 2):
                total = sum(outputs[r][i] * kernel[r][j] * inputs[r][k] for r in points)
                assert total == (k == i + j)  # y_i = sum_j w_j x_{i + j}


def test_matrices_are_the_textbooks():
    """Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, but for the signs of whole rows."""
    matrices = winograd_matrices(4)
    assert matrices.inputs == (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    )
    sixth, twelfth, twentyfourth = 1 / 6, 1 / 12, 1 / 24
    assert matrices.kernel == (
        (0.25, 0, 0),
        (-sixth, -sixth, -sixth),
        (-sixth, sixth, -sixth),
        (twentyfourth, twelfth, sixth),
        (twentyfourth, -twelfth, sixth),
        (0, 0, 1),
    )
    assert [list(column) for column in zip(*matrices.outputs, strict=True)] == [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]


@BOTH
def test_one_product_is_both_axes(tile):
    """The Kronecker product does to an image what the matrix does to its columns, and then to its rows."""
    for rows in MATRICES[tile]:
        matrix = torch.tensor(rows, dtype=torch.float64)
        x = torch.randn(matrix.shape[1], matrix.shape[1], dtype=torch.float64)
        torch.testing.assert_close(both_axes(rows, x) @ x.flatten(), (matrix @ x @ matrix.T).flatten())


def test_worked_example():
    """F(2, 3) of a row, then the same row as an image of which the outer rows are zero."""
    matrices = winograd_matrices(2)
    inputs, kernel, outputs = (torch.tensor(matrix) for matrix in matrices)
    assert inputs.tolist() == [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]
    assert kernel.tolist() == [[-1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
    assert outputs.tolist() == [[1, 0], [1, 1], [1, -1], [0, 1]]
    x, w = torch.tensor([1.0, 2.0, 0.0, 3.0]), torch.tensor([0.5, -1.0, 2.0])
    assert (inputs @ x).tolist() == [-1.0, 2.0, -2.0, 1.0]
    assert (kernel @ w).tolist() == [-0.5, 0.75, 1.75, 2.0]
    products = (inputs @ x) * (kernel @ w)
    assert products.tolist() == [0.5, 1.5, -3.5, 2.0]
    assert (outputs.T @ products).tolist() == [-1.5, 7.0]
    image, sheet = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 3)
    image[0, 0, 1], sheet[0, 0, 1] = x, w
    window = ((1, 1), (0, 0), (1, 1), 1)
    with torch.no_grad():
        y = winograd_2x2_convolution(image, sheet, None, *window)
        torch.testing.assert_close(y[0, 0, 0], torch.tensor([-1.5, 7.0]))
        dy = torch.tensor([[1.0, 2.0], [0.0, 0.0]]).view(1, 1, 2, 2)
        dx = winograd_2x2_input_gradient(dy, sheet, (4, 4), *window)
        torch.testing.assert_close(dx[0, 0, 1], torch.tensor([0.5, 0.0, 0.0, 4.0]))
        dweight = winograd_2x2_weight_gradient(dy, image, (3, 3), *window)
        torch.testing.assert_close(dweight[0, 0, 1], torch.tensor([5.0, 2.0, 6.0]))
    torch.testing.assert_close(outputs @ torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0, -1.0, 2.0]))
    dpoints = (outputs @ torch.tensor([1.0, 2.0])) * (inputs @ x)
    assert dpoints.tolist() == [-1.0, 6.0, 2.0, 2.0]
    assert (kernel.T @ dpoints).tolist() == [5.0, 2.0, 6.0]


def test_errors_of_float32_are_what_the_page_says():
    """Root mean square error against float64, relative to the outputs: 64 channels of normal numbers."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 64, 16, 16, generator=generator)
    weight = torch.randn(64, 64, 3, 3, generator=generator)
    with torch.no_grad():
        exact = im2col_convolution(x.double(), weight.double(), None, *WINDOW)

        def error(technique):
            return (technique(x, weight, None, *WINDOW) - exact).square().mean().sqrt() / exact.square().mean().sqrt()

        plain, two, four = (
            error(technique) for technique in (im2col_convolution, winograd_2x2_convolution, winograd_4x4_convolution)
        )
    # measured: 2.5e-7, 2.7e-7, 1.8e-6; how a product adds up differs between processors, so the bounds are wide
    assert plain < 2e-6
    assert two < 2e-6
    assert four < 6e-6


@pytest.mark.parametrize(
    "window",
    [
        ((2, 1), (1, 1), (1, 1), 1),
        ((1, 1), (3, 1), (1, 1), 1),
        ((1, 1), (1, 1), (1, 2), 1),
        ((1, 1), (1, 1), (1, 1), 2),
    ],
)
@pytest.mark.parametrize("name", ["winograd_2x2", "winograd_4x4"])
def test_what_does_not_fit(name, window):
    with pytest.raises(ValueError, match="winograd: given kernel_size"):
        TECHNIQUES[name].forward(torch.zeros(1, 2, 8, 8), torch.zeros(2, 2 // window[3], 3, 3), None, *window)


def test_other_kernels_do_not_fit():
    with pytest.raises(ValueError, match=r"kernel_size=\(3, 5\)"):
        winograd_4x4_weight_gradient(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 6, 8), (3, 5), *WINDOW)
