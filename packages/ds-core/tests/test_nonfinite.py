"""The first place where a step is not finite is named."""

import math

import torch
from ds_core import Linear, Module, Sequential
from ds_core.training.nonfinite import first_nonfinite


class Change(Module):
    """x, with one element replaced in forward or in backward."""

    def __init__(self, forward=None, backward=None):
        self.values = (forward, backward)

    def replaced(self, x, value):
        if value is None:
            return x
        x = x.clone()
        x.view(-1)[0] = value
        return x

    def forward(self, x):
        self.save()
        return self.replaced(x, self.values[0])

    def backward(self, dy):
        self.saved()
        return self.replaced(dy, self.values[1])


class Total(Change):
    def forward(self, input, target):
        self.save(input)
        return self.replaced(input.sum(), self.values[0])

    def backward(self, grad=None):
        (x,) = self.saved()
        return self.replaced(torch.ones_like(x), self.values[1])


def found(*layers, criterion=None, x=None):
    model = Sequential(Linear(2, 2), Sequential(*layers), Linear(2, 2))
    x = torch.ones(1, 2) if x is None else x
    message = first_nonfinite(model, criterion or Total(), [(x, 0)])
    for module in (*model.modules(), criterion):  # nobody watches any more
        assert criterion is None or not {"forward", "backward"} & set(vars(module))
    return message


def test_output_of_the_innermost_layer():
    message = found(Linear(2, 2), Change(forward=math.nan), Change(forward=math.inf))
    assert message == "the first layer whose output is not finite is 1.1 (Change())"


def test_gradient():
    message = found(Change(backward=math.inf), Linear(2, 2), Change(backward=math.inf))
    assert message == "every output is finite, the first gradient that is not is that of 1.2 (Change())"


def test_gradient_of_a_parameter():
    model = Sequential(Linear(1, 1, bias=False), Change())
    with torch.no_grad():
        model[0].weight.fill_(1e-30)

    class Steep(Total):
        def backward(self, grad=None):
            return super().backward(grad) * 1e30

    message = first_nonfinite(model, Steep(), [(torch.full((1, 1), 1e30), 0)])
    assert message == (
        "every output is finite, the first gradient that is not is that of 0 "
        "(Linear(in_features=1, out_features=1, bias=False))"
    )


def test_loss_and_its_gradient():
    assert (
        found(Change(), criterion=Total(forward=math.nan)) == "every layer's output is finite, the loss Total() is not"
    )
    assert found(Change(), criterion=Total(backward=math.nan)) == "the loss is finite, the gradient of Total() is not"


def test_inputs():
    assert found(Change(), x=torch.tensor([[1.0, math.nan]])) == "the inputs of the model are not finite"
    assert found(Change(), x=(torch.tensor([[1.0, math.nan]]),)) == "the inputs of the model are not finite"


def test_spoiled_weights_are_named():
    model = Sequential(Linear(2, 2), Linear(2, 2))
    with torch.no_grad():
        model[1].bias[0] = math.nan
    message = first_nonfinite(model, Total(), [(torch.ones(1, 2), 0)])
    assert message.endswith(
        "is 1 (Linear(in_features=2, out_features=2, bias=True)) (weights that are not finite: 1.bias)"
    )


def test_sum_over_micro_batches():
    class Large(Total):
        def backward(self, grad=None):
            return torch.full_like(self.saved()[0], 3e38)

    model = Sequential(Change(), Linear(1, 1, bias=False))
    message = first_nonfinite(model, Large(), [(torch.ones(1, 1), 0)] * 2)
    assert "the first gradient that is not is that of 1" in message


def test_nothing_to_find():
    assert found(Change()) == "repeated eagerly, every output and every gradient is finite"


def test_a_model_that_is_one_layer():
    model = Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(math.inf)
    assert "not finite is the model (Linear" in first_nonfinite(model, Total(), [(torch.ones(1, 1), 0)])
