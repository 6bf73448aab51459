import pytest
import torch
from ds_cnn.convolutions.im2col import (
    im2col,
    im2col_convolution,
    im2col_input_gradient,
    im2col_weight_gradient,
    pad_channels_last,
    weight_matrix,
    windows,
)
from technique_checks import IMAGE, KERNEL, Shapes, channels_last, check_autograd, check_technique, draws

WINDOW = ((1, 1), (0, 0), (1, 1), 1)


def test_against_torch(monkeypatch):
    assert check_technique("im2col", draws(40), monkeypatch) == 40


def test_autograd_and_double_backward():
    check_autograd("im2col", Shapes(2, (4, 3), 2, 4, (3, 2), (2, 1), (1, 1), (1, 2), 2))


def test_worked_example():
    columns = im2col(windows(pad_channels_last(IMAGE, (0, 0)), (2, 2), (2, 2), (1, 1), (1, 1), 1))
    assert columns.tolist() == [[[1, 2, 0, 1], [2, 0, 1, 3], [0, 1, 2, 1], [1, 3, 1, 1]]]
    matrix = weight_matrix(KERNEL, 1)
    assert matrix.tolist() == [[[1.0], [-0.5], [0.5], [2.0]]]
    torch.testing.assert_close(columns @ matrix, torch.tensor([[[2.0], [8.5], [2.5], [2.0]]]))
    y = im2col_convolution(IMAGE, KERNEL, None, *WINDOW)
    torch.testing.assert_close(y, torch.tensor([[2.0, 8.5], [2.5, 2.0]]).view(1, 1, 2, 2))
    dy = torch.tensor([[1.0, 0.5], [-1.0, 2.0]]).view(1, 1, 2, 2)
    dcolumns = dy.view(1, 4, 1) @ matrix.transpose(1, 2)
    rows = [[1.0, -0.5, 0.5, 2.0], [0.5, -0.25, 0.25, 1.0], [-1.0, 0.5, -0.5, -2.0], [2.0, -1.0, 1.0, 4.0]]
    torch.testing.assert_close(dcolumns, torch.tensor([rows]))
    assert 2.0 + 0.25 + 0.5 + 2.0 == 4.75
    dx = im2col_input_gradient(dy, KERNEL, (3, 3), *WINDOW)
    torch.testing.assert_close(dx[0, 0], torch.tensor([[1.0, 0.0, -0.25], [-0.5, 4.75, 0.0], [-0.5, -1.0, 4.0]]))
    dweight = im2col_weight_gradient(dy, IMAGE, (2, 2), *WINDOW)
    torch.testing.assert_close(dweight[0, 0], torch.tensor([[4.0, 7.0], [0.5, 3.5]]))


def test_columns_are_windows():
    """Rows by image and position, numbers of a row by kernel position and then channel, group by group."""
    x = torch.randn(2, 4, 5, 6)
    found = im2col(windows(pad_channels_last(x, (1, 0)), (3, 2), (2, 3), (2, 2), (2, 1), 2))
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1))
    for group in range(2):
        row = 0
        for n in range(2):
            for p in range(3):
                for q in range(2):
                    window = padded[n, 2 * group : 2 * group + 2, 2 * p : 2 * p + 3 : 2, 2 * q : 2 * q + 3]
                    assert torch.equal(found[group, row], window.permute(1, 2, 0).flatten())
                    row += 1


def test_input_with_channels_last_is_not_copied_without_padding():
    x = channels_last(torch.randn(2, 3, 4, 5))
    assert pad_channels_last(x, (0, 0)).data_ptr() == x.data_ptr()


def test_output_is_channels_last():
    y = im2col_convolution(torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3), None, (2, 2), (1, 1), (1, 1), 1)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype):
    """Sums over many windows are taken in float32: their error is that of one rounding."""
    x, weight, dy = (torch.randn(shape).to(dtype) for shape in ((4, 8, 16, 16), (8, 8, 3, 3), (4, 8, 8, 8)))
    window = ((2, 2), (1, 1), (1, 1), 1)
    with torch.no_grad():
        found = (
            im2col_convolution(x, weight, None, *window),
            im2col_input_gradient(dy, weight, (16, 16), *window),
            im2col_weight_gradient(dy, x, (3, 3), *window),
        )
        wide = x.double(), weight.double(), dy.double()
        expected = (
            im2col_convolution(wide[0], wide[1], None, *window),
            im2col_input_gradient(wide[2], wide[1], (16, 16), *window),
            im2col_weight_gradient(wide[2], wide[0], (3, 3), *window),
        )
    for result, reference in zip(found, expected, strict=True):
        assert result.dtype == dtype
        error = (result.double() - reference).abs().max() / reference.abs().max()
        assert error < 2 * torch.finfo(dtype).eps
