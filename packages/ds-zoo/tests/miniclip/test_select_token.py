import pytest
import torch
from ds_core.testing import check_layer
from ds_zoo.miniclip.select_token import SelectToken, end_positions, select_token, select_token_backward


def test_layer():
    index = torch.tensor([2, 0, 3])
    check_layer(SelectToken(), torch.randn(3, 4, 5, dtype=torch.float64), index)


@pytest.mark.parametrize(
    ("rows", "end_token", "positions"),
    [
        ([[5, 9, 9], [9, 1, 2], [1, 2, 3]], 9, [1, 0, 0]),  # the first one; none at all
        ([[5, 9, 9], [9, 1, 2], [1, 2, 3]], 2, [1, 0, 2]),  # the largest number
        ([[0, 0, 0]], 0, [0]),
    ],
)
def test_both_rules(rows, end_token, positions):
    assert end_positions(torch.tensor(rows), end_token).tolist() == positions


def test_worked_example():
    index = end_positions(torch.tensor([[4, 9, 9], [4, 5, 9]]), 9)
    assert index.tolist() == [1, 2]
    x = torch.tensor([[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]]).unsqueeze(2)
    assert select_token(x, index).flatten().tolist() == [1.5, 5.5]
    dx = select_token_backward(torch.tensor([[0.1], [0.2]]), index, 3)
    torch.testing.assert_close(dx.squeeze(2), torch.tensor([[0.0, 0.1, 0.0], [0.0, 0.0, 0.2]]))
