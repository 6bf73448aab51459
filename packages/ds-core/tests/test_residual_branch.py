import pytest
import torch
from ds_core import Dropout, Flatten, Identity, Linear, Module, record
from ds_core.layers.residual_branch import add_branch, add_branch_backward, add_skip
from ds_core.testing import check_layer


class Branch(Module):
    """y = x + f(x), f two linear layers."""

    def __init__(self):
        self.layers = [Linear(4, 3), Linear(3, 4)]

    def forward(self, x):
        branch = self.layers[1].forward(self.layers[0].forward(x))
        return add_branch(x, branch)

    def backward(self, dy, *, input_gradient=True):
        return add_branch_backward(dy, self.layers, input_gradient)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4), (2, 0, 4)])
def test_gradients(shape):
    check_layer(Branch(), torch.randn(shape), skip=["finite differences"] if 0 in shape else [])


def test_worked_example():
    layer = Linear(2, 2, bias=False, dtype=torch.float64)
    layer.load_state_dict({"weight": torch.tensor([[0.5, -1.0], [2.0, 0.25]])})
    x = torch.tensor([[1.0, 2.0], [-3.0, 4.0]], dtype=torch.float64)
    dy = torch.tensor([[2.0, 1.0], [0.5, -2.0]], dtype=torch.float64)
    with record():
        branch = layer(x)
        assert branch.tolist() == [[-1.5, 2.5], [-5.5, -5.0]]
        y = add_branch(x, branch)
        dx = add_branch_backward(dy, [layer], True)
    assert (dx - dy).tolist() == [[3.0, -1.75], [-3.75, -1.0]]
    assert y.tolist() == [[-0.5, 4.5], [-8.5, -1.0]]
    assert dx.tolist() == [[5.0, -0.75], [-3.25, -3.0]]
    assert layer.weight.grad.tolist() == [[0.5, 6.0], [7.0, -6.0]]


def test_the_sum_is_written_where_the_branch_was():
    x, branch = torch.randn(2, 3, 4)
    kept = x.clone()
    with torch.no_grad():
        y = add_branch(x, branch)
    assert y.data_ptr() == branch.data_ptr()
    assert torch.equal(x, kept)
    dy, dbranch = torch.randn(3, 4), torch.randn(3, 4)
    kept, expected = dy.clone(), dy + dbranch
    with torch.no_grad():
        dx = add_skip(dy, dbranch)
    assert dx.data_ptr() == dbranch.data_ptr()
    assert torch.equal(dy, kept)
    assert torch.equal(dx, expected)


def test_a_sum_whose_branch_is_not_new_is():
    x, branch = torch.randn(2, 3, 4)
    kept, expected = branch.clone(), x + branch
    with torch.no_grad():
        y = add_branch(x, branch, new=False)
    assert torch.equal(y, expected)
    assert torch.equal(branch, kept)


@pytest.mark.parametrize("handed_on", [lambda dy: dy, lambda dy: dy.view(4, 3).view(3, 4), lambda dy: dy.flip(0)[:]])
def test_a_given_gradient_is_not_written_to(handed_on):
    dy = torch.randn(3, 4)
    kept, expected = dy.clone(), dy + handed_on(dy)
    with torch.no_grad():
        dx = add_skip(dy, handed_on(dy))
    assert torch.equal(dy, kept)
    assert torch.equal(dx, expected)


@pytest.mark.parametrize("layers", [[Identity()], [Identity(), Dropout(0.5).eval()], [Dropout(0.0), Flatten(1)]])
def test_a_branch_that_hands_its_gradient_on(layers):
    x, dy = torch.randn(2, 3, 4)
    kept = dy.clone()
    with record():
        for layer in layers:
            x = layer(x)
        dx = add_branch_backward(dy, layers, True)
    assert torch.equal(dy, kept)
    assert torch.equal(dx, 2 * kept)


def test_with_autograd_nothing_is_written_over():
    x, branch = torch.randn(2, 3, 4, requires_grad=True).unbind()
    kept = branch.detach().clone()
    y = add_branch(x, branch)
    y.sum().backward()
    assert torch.equal(branch.detach(), kept)


def test_two_dtypes_meet_in_the_wider_one():
    """Under autocast a branch is bfloat16 while x, and so the sum, stays float32."""
    x, branch = torch.randn(3, 4), torch.randn(3, 4, dtype=torch.bfloat16)
    with torch.no_grad():
        y, dx = add_branch(x, branch), add_skip(x, branch)
    assert y.dtype == dx.dtype == torch.float32
    assert torch.equal(y, x + branch.float())
    assert torch.equal(dx, x + branch.float())


def test_none_means_zeros():
    given = torch.randn(3)
    assert add_skip(None, None) is None
    assert add_skip(given, None) is given
    assert add_skip(None, given) is given
