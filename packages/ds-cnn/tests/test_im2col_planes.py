import pytest
import torch
from ds_cnn.convolutions.im2col_planes import (
    planes,
    planes_convolution,
    planes_input_gradient,
    planes_weight_gradient,
)
from technique_checks import IMAGE, KERNEL, Shapes, check_autograd, check_technique, draws

WINDOW = ((1, 1), (0, 0), (1, 1), 1)


def test_against_torch(monkeypatch):
    assert check_technique("im2col_planes", draws(40, groups=1), monkeypatch) == 40


def test_autograd_and_double_backward():
    check_autograd("im2col_planes", Shapes(2, (4, 3), 2, 2, (3, 2), (2, 1), (1, 1), (1, 2), 1))


def test_worked_example():
    columns = planes(IMAGE, (2, 2), (2, 2), (1, 1), (0, 0), (1, 1))
    assert columns.tolist() == [[1, 2, 0, 1], [2, 0, 1, 3], [0, 1, 2, 1], [1, 3, 1, 1]]
    y = planes_convolution(IMAGE, KERNEL, None, *WINDOW)
    torch.testing.assert_close(y, torch.tensor([[2.0, 8.5], [2.5, 2.0]]).view(1, 1, 2, 2))
    dy = torch.tensor([[1.0, 0.5], [-1.0, 2.0]]).view(1, 1, 2, 2)
    dx = planes_input_gradient(dy, KERNEL, (3, 3), *WINDOW)
    torch.testing.assert_close(dx[0, 0], torch.tensor([[1.0, 0.0, -0.25], [-0.5, 4.75, 0.0], [-0.5, -1.0, 4.0]]))
    dweight = planes_weight_gradient(dy, IMAGE, (2, 2), *WINDOW)
    torch.testing.assert_close(dweight[0, 0], torch.tensor([[4.0, 7.0], [0.5, 3.5]]))


def test_rows_are_shifted_images():
    x = torch.randn(2, 3, 5, 6)
    found = planes(x, (5, 6), (3, 3), (1, 1), (1, 1), (1, 1)).view(3, 3, 3, 2, 5, 6)
    assert torch.equal(found[:, 1, 1], x.transpose(0, 1))
    assert torch.equal(found[2, 0, 2, :, 1:, :-1], x[:, 2, :-1, 1:])
    assert found[2, 0, 2, :, 0].abs().sum() == 0


def test_groups_do_not_fit():
    with pytest.raises(ValueError, match="groups=2"):
        planes_convolution(torch.zeros(1, 2, 3, 3), torch.zeros(2, 1, 2, 2), None, (1, 1), (0, 0), (1, 1), 2)
