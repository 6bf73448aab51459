"""Forward and backward of a step, over one micro-batch or several."""

import pytest
import torch
from ds_core import Linear, Module, Sequential
from ds_core.training.gradients import backpropagate
from squared_error import Squares


def gradients(model):
    found = [tensor.grad.clone() for tensor in model.parameters()]
    for tensor in model.parameters():
        tensor.grad = None
    return found


def test_micro_batches_equal_one_batch():
    model = Sequential(Linear(3, 4), Linear(4, 2)).double()
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    loss = backpropagate(model, Squares(), [(x, y)])
    whole = gradients(model)
    parts = backpropagate(model, Squares(), [(x[i : i + 2], y[i : i + 2]) for i in (0, 2, 4)])
    torch.testing.assert_close(parts, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(model), whole, rtol=1e-12, atol=1e-15)
    Squares()(model(x), y).backward()
    torch.testing.assert_close(gradients(model), whole, rtol=1e-12, atol=1e-15)


def test_input_gradient_is_asked_for_only_where_it_can_be_refused():
    asked = []

    class Refusing(Linear):
        def backward(self, dy, *, input_gradient=True):
            asked.append(input_gradient)
            return super().backward(dy, input_gradient=input_gradient)

    class Plain(Linear):
        def backward(self, dy):
            asked.append("plain")
            return super().backward(dy)

    for model in (Refusing(2, 2), Plain(2, 2)):
        backpropagate(model, Squares(), [(torch.ones(1, 2), torch.zeros(1, 2))])
    assert asked == [False, "plain"]


def test_several_inputs_and_outputs():
    class Swap(Module):
        def __init__(self):
            self.first, self.second = Linear(2, 2), Linear(3, 3)

        def forward(self, a, b):
            return self.second(b), self.first(a)

        def backward(self, db, da):
            self.first.backward(da)
            self.second.backward(db)

    class Sum(Module):
        def forward(self, input, target):
            self.save(*input)
            return input[0].sum() + input[1].sum() * target

        def backward(self, grad=None):
            return tuple(torch.ones_like(tensor) for tensor in self.saved())

    model = Swap()
    backpropagate(model, Sum(), [((torch.ones(1, 2), torch.ones(1, 3)), 1.0)])
    assert [tensor.grad.sum().item() for tensor in model.parameters()] == [4.0, 2.0, 9.0, 3.0]


def test_no_batch():
    with pytest.raises(ValueError, match="at least one batch"):
        backpropagate(Linear(1, 1), Squares(), [])
