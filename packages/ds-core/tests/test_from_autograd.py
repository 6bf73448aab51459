"""from_autograd: a function or a prototype without a backward as a layer."""

import pytest
import torch
from bridged_layers import Noise, assert_all_close, autograd_of
from ds_core import Linear, Module, Sequential, record
from ds_core.interop import from_autograd


def test_a_function_of_several_tensors():
    layer = from_autograd(lambda x, y, power: (x**power * y, y.exp()))
    x, y = torch.rand(3), torch.rand(3)
    with record():
        first, _ = layer(x, y, 2)
        dx, dy = layer.backward(torch.ones(3), torch.ones(3))
    assert not first.requires_grad
    torch.testing.assert_close(dx, 2 * x * y)
    torch.testing.assert_close(dy, x**2 + y.exp())
    assert repr(layer) == "AutogradLayer(<lambda>, gradients by autograd)"


def test_trailing_gradients_may_be_left_out():
    layer = from_autograd(lambda x: (x * 2, x * 3))
    with record():
        layer(torch.ones(2))
        assert layer.backward(torch.ones(2)).tolist() == [2, 2]


def test_a_prototype_module_without_a_backward():
    class Prototype(Module):
        def __init__(self):
            self.a, self.b = Linear(3, 4), [Linear(4, 3), Noise()]

        def forward(self, x):
            h = torch.tanh(self.a(x))
            return self.b[1](self.b[0](h)) * x

    torch.manual_seed(0)
    prototype = Prototype()
    layer = from_autograd(prototype)
    assert list(layer.state_dict()) == list(prototype.state_dict())
    assert [n for n, _ in layer.named_parameters()] == [n for n, _ in prototype.named_parameters()]
    model = Sequential(Linear(3, 3), layer)
    x = torch.randn(2, 3)
    torch.manual_seed(1)
    with record() as trace:
        y = model(x)
        assert len(trace) == 2  # the layers inside recorded nothing
        dx = model.backward(torch.ones_like(y))
    ours = [dx, *[p.grad for p in model.parameters()]]
    torch.manual_seed(1)
    assert_all_close(ours, autograd_of(model, x, dy=torch.ones_like(y)))
    model.eval()
    assert prototype.b[1].training is False


def test_a_parameter_that_nobody_would_fetch_is_refused():
    hidden = Linear(2, 3)
    layer = from_autograd(lambda x: hidden(x) * 2)
    with pytest.raises(TypeError, match=r"parameter of shape \(\d, .*pass it as an input"), record():
        layer(torch.ones(1, 2))
    frozen = from_autograd(lambda x: Linear(2, 3).requires_grad_(False)(x))
    with record():
        frozen.backward(frozen(torch.ones(1, 2)))


def test_a_structure_that_does_not_fit_is_said():
    layer = from_autograd(lambda x: (x, (x, x)))
    with record():
        layer(torch.ones(2))
        with pytest.raises(TypeError, match="gradients for a tuple of 2: given a Tensor"):
            layer.backward(None, torch.ones(2))
        layer.backward(None)
