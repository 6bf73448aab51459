"""report: the table of a whole model's gradients."""

import pytest
import torch
from ds_core import Linear, Module, Residual, Sequential
from ds_core.testing import CheckFailed, report
from planted_layers import X


class Squares(Module):
    """The mean of the squared differences."""

    def forward(self, input, target):
        self.save(input - target)
        return ((input - target) ** 2).mean()

    def backward(self, grad=None):
        (difference,) = self.saved()
        return 2 / difference.numel() * difference * (1.0 if grad is None else grad)


class Doubled(Linear):
    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        self.bias.grad.mul_(2)
        return dx


def model(last=Linear):
    torch.manual_seed(0)
    return Sequential(Linear(3, 4), Residual(last(4, 4)))


def test_a_right_model():
    found = report(model(), X)
    assert found.ok
    assert [row.tensor for row in found.rows] == ["input", "weight", "bias", "weight", "bias"]
    assert [row.module.split(":")[0] for row in found.rows] == ["inputs", "0", "0", "1.layer", "1.layer"]
    assert all(row.difference < 1e-12 and row.finite_difference < 1e-6 and row.handwritten > 0 for row in found.rows)
    text = str(found)
    assert "1.layer: Linear(in_features=4, out_features=4, bias=True)" in text
    assert text.count(" ok\n") == 5
    assert text.endswith("ok: all gradients agree")
    assert max(len(line) for line in text.splitlines()) < 100


@pytest.mark.parametrize("finite_difference", [True, False])
def test_a_wrong_gradient_fails_in_its_row(finite_difference):
    found = report(model(Doubled), X, finite_difference=finite_difference)
    assert not found.ok
    (wrong,) = [row for row in found.rows if not row.ok]
    assert (wrong.module.split(":")[0], wrong.tensor) == ("1.layer", "bias")
    assert wrong.handwritten == pytest.approx(2 * wrong.autograd)
    assert wrong.difference > 0.5
    assert (wrong.finite_difference is None) != finite_difference
    assert "FAIL: 1 of 5 gradients differ" in str(found)


def test_a_gradient_that_only_finite_differences_know_to_be_wrong():
    class Detached(Linear):
        def forward(self, x):
            return super().forward(x) + (x - x.detach()).sum(-1, keepdim=True)

        def backward(self, dy, *, input_gradient=True):
            return super().backward(dy) + dy.sum(-1, keepdim=True)

    found = report(Detached(3, 4), X)
    assert [row.tensor for row in found.rows if not row.ok] == ["x"]
    assert report(Detached(3, 4), X, finite_difference=False).ok


def test_with_a_criterion_the_gradients_are_those_of_training():
    layer = model()
    found = report(layer, X, Squares(), torch.zeros(2, 4))
    assert found.ok
    layer.double()
    (layer(X.double()) ** 2).mean().backward()
    expected = [tensor.grad.norm() for tensor in layer.parameters()]
    given = torch.tensor([row.handwritten for row in found.rows[1:]])
    assert torch.allclose(given / given[0], (torch.stack(expected) / expected[0]).float())


def test_the_model_is_unchanged():
    layer = model()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    report(layer, (X,), Squares(), torch.zeros(2, 4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    assert all(tensor.grad is None and tensor.dtype == torch.float32 for tensor in layer.parameters())


def test_a_model_whose_backward_does_not_mirror_its_forward():
    class Forgets(Linear):
        def forward(self, x):
            self.save(x)
            return super().forward(x)

    with pytest.raises(CheckFailed, match="last call not yet gone back through is of Forgets"):
        report(model(Forgets), X)


def test_a_model_by_protocol_alone():
    class Foreign:
        def __init__(self):
            self.layer = Linear(3, 2)

        def forward(self, x, shift):
            return self.layer(x + shift)

        def backward(self, dy):
            dx = self.layer.backward(dy)
            return dx, dx

        def parameters(self):
            return self.layer.parameters()

    found = report(Foreign(), (X, X))
    assert found.ok
    assert [(row.module, row.tensor) for row in found.rows][:3] == [
        ("inputs", "x"),
        ("inputs", "shift"),
        ("model: Foreign()", "parameter 0"),
    ]
