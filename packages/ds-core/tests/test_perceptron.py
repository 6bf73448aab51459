"""The perceptron's loss against its closed form, and its descent against scikit-learn's Perceptron."""

import numpy as np
import pytest
import torch
from ds_core import SGD, Linear, PerceptronLoss, record
from ds_core.losses.perceptron import perceptron_loss, perceptron_loss_backward
from ds_core.testing import check_loss
from sklearn.linear_model import Perceptron


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(7,), (3, 4)])
def test_perceptron_loss_is_right(reduction, shape):
    target = torch.randint(2, shape) * 2 - 1
    check_loss(PerceptronLoss(reduction), torch.randn(shape), target, constants=["target"])


def test_worked_example():
    x = torch.tensor([[0.5, -2.0], [0.0, 1.5]], requires_grad=True)
    target = torch.tensor([[1, 1], [-1, -1]])
    assert perceptron_loss(x, target).tolist() == [[0, 2], [0, 1.5]]
    loss = PerceptronLoss()
    with record():
        assert float(loss(x, target)) == pytest.approx(3.5 / 4) == 0.875
        dx = loss.backward()
    assert dx.tolist() == [[0, -0.25], [0.25, 0.25]]
    loss(x, target).backward()
    assert torch.equal(x.grad, dx)  # at 0 too


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_on_the_boundary_it_is_a_mistake(zero):
    for target in (1.0, -1.0):
        dx = perceptron_loss_backward(torch.tensor(2.0), torch.tensor([zero]), torch.tensor([target]))
        assert dx.tolist() == [-2 * target]


def test_extremes():
    x = torch.tensor([1e30, -1e30, float("inf"), float("-inf")])
    target = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    assert perceptron_loss(x, target).tolist() == pytest.approx([1e30, 0, 0, float("inf")])
    assert perceptron_loss_backward(torch.ones(()), x, target).tolist() == [1, 0, 0, -1]


@pytest.mark.parametrize("separable", [True, False])
def test_descent_is_rosenblatts_rule_as_in_scikit_learn(separable):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(60, 3))
    classes = np.where(inputs @ [1.0, -2.0, 0.5] + (0.3 if separable else generator.normal(size=60)) > 0, 1, -1)
    twin = Perceptron(max_iter=4, tol=None, shuffle=False).fit(inputs, classes)
    layer, criterion = Linear(3, 1).double(), PerceptronLoss()
    optimizer = SGD(layer.parameters(), lr=1.0)
    for parameter in layer.parameters():
        parameter.data.zero_()
    for _ in range(4):
        for row, label in zip(torch.from_numpy(inputs), classes, strict=True):
            with record():
                criterion(layer(row), torch.tensor([float(label)]))
                layer.backward(criterion.backward())
            optimizer.step()
            optimizer.zero_grad()
    np.testing.assert_allclose(layer.weight.detach().numpy(), twin.coef_, rtol=1e-12)
    np.testing.assert_allclose(layer.bias.detach().numpy(), twin.intercept_, rtol=1e-12)


def test_unknown_reduction():
    with pytest.raises(ValueError, match="PerceptronLoss: given reduction='avg'"):
        PerceptronLoss("avg")
