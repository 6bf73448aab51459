"""as_torch: outputs and gradients of layers of every kind, several calls and what is not needed."""

import copy
from dataclasses import dataclass

import pytest
import torch
from bridged_layers import Cell, Product, assert_all_close, autograd_of, network
from ds_core import Linear, Module
from ds_core.interop import as_torch


def test_outputs_and_gradients():
    module = as_torch(network())
    x, dy = torch.randn(5, 4, requires_grad=True), torch.randn(5, 2)
    y = module(x)
    y.backward(dy)
    assert isinstance(module, torch.nn.Module)
    oracle = network()
    torch.testing.assert_close(y, oracle(x))
    assert_all_close([x.grad, *[p.grad for p in module.parameters()]], autograd_of(oracle, x, dy=dy))


def test_it_is_our_backward_that_runs():
    class Wrong(Module):
        def forward(self, x):
            self.save()
            return x * 2

        def backward(self, dy):
            self.saved()
            return dy * 100

    x = torch.ones(2, requires_grad=True)
    as_torch(Wrong())(x).sum().backward()
    assert x.grad.tolist() == [100, 100]


def test_inside_a_torch_model():
    torch.manual_seed(0)
    ours = Linear(6, 6)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 6), as_torch(ours), torch.nn.ReLU(inplace=True), torch.nn.Linear(6, 1)
    )
    twin = torch.nn.Linear(6, 6)
    twin.load_state_dict(ours.state_dict())
    reference = torch.nn.Sequential(copy.deepcopy(model[0]), twin, torch.nn.ReLU(), copy.deepcopy(model[3]))
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.1) for m in (model, reference)]
    for _ in range(3):
        x = torch.randn(5, 4)
        for m, optimizer in zip((model, reference), optimizers, strict=True):
            optimizer.zero_grad()
            m(x).square().sum().backward()
            optimizer.step()
    for first, second in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_several_forwards_before_one_backward():
    module = as_torch(network())
    xs = [torch.randn(3, 4, requires_grad=True) for _ in range(3)]
    ys = [module(x) for x in xs]
    (ys[0] * ys[1] + ys[2]).sum().backward()
    oracle = network()
    leaves = [x.detach().clone().requires_grad_() for x in xs]
    ys = [oracle(x) for x in leaves]
    (ys[0] * ys[1] + ys[2]).sum().backward()
    assert_all_close([x.grad for x in xs], [x.grad for x in leaves])
    assert_all_close([p.grad for p in module.parameters()], [p.grad for p in oracle.parameters()])


def test_one_input_given_twice_and_one_output_returned_twice():
    class Twice(Module):
        def forward(self, x, y):
            self.save(x, y)
            z = x * y
            return z, z, x

        def backward(self, dz, dsame=None, dcopy=None):
            x, y = self.saved()
            parts = [d for d in (dz, dsame) if d is not None]
            return sum(parts) * y + (0 if dcopy is None else dcopy), sum(parts) * x

    x = torch.tensor([2.0, 3.0], requires_grad=True)
    first, second, same = as_torch(Twice())(x, x)
    (first + 10 * second + 100 * same).sum().backward()
    assert x.grad.tolist() == [11 * 4 + 100, 11 * 6 + 100]


def test_nested_inputs_integers_and_none():
    module = as_torch(Product())
    x, y = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    z, times, total = module(x, torch.tensor(2), y)
    assert times.item() == 2
    (z.sum() + 3 * total).backward()
    w = module.weight.detach()
    torch.testing.assert_close(x.grad, 4 * 2 * y.detach() * w)
    torch.testing.assert_close(y.grad, 4 * 2 * x.detach() * w)
    torch.testing.assert_close(module.weight.grad, 4 * 2 * (x * y).detach().sum(0))
    assert module(x, 2, y)[1] == 2
    x.grad = None
    module(x, y=y, times=2)[0].sum().backward()
    torch.testing.assert_close(x.grad, 2 * y.detach() * w)


def test_recurrent_signature():
    layer = Cell()
    module = as_torch(layer)
    x, h, c = (torch.randn(3, 2, requires_grad=True) for _ in range(3))
    y, (h1, c1) = module(x, (h, c))
    (y + 2 * h1 + 3 * c1).sum().backward()
    ours = [x.grad, h.grad, c.grad, module.scale.grad]
    y, (h1, c1) = layer.forward(x, (h, c))
    assert_all_close(ours, torch.autograd.grad((y + 2 * h1 + 3 * c1).sum(), [x, h, c, layer.scale]))
    for states in ((), (None,)):
        x.grad = None
        y, (h1, _) = module(x, *states)
        h1.sum().backward()
        assert x.grad.tolist() == [[1, 1]] * 3


def test_named_outputs():
    @dataclass
    class Found:
        boxes: torch.Tensor
        scores: torch.Tensor
        names: list

    class Head(Module):
        def forward(self, x):
            self.save()
            return Found(x * 2, x * 3, ["a"])

        def backward(self, dfound):
            self.saved()
            assert dfound.scores is None
            assert dfound.names is None
            return dfound.boxes * 2

    x = torch.ones(2, requires_grad=True)
    found = as_torch(Head())(x)
    assert found.names == ["a"]
    found.boxes.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_an_input_without_a_gradient_from_backward_is_said():
    class HalfBackward(Module):
        def forward(self, x, y):
            self.save()
            return x + y

        def backward(self, dz):
            self.saved()
            return dz

    x, y = torch.ones(2, requires_grad=True), torch.ones(2)
    module = as_torch(HalfBackward())
    module(x, y).sum().backward()
    assert x.grad.tolist() == [1, 1]
    with pytest.raises(TypeError, match=r"argument y of HalfBackward\(\) requires a gradient"):
        module(x, y.requires_grad_()).sum().backward()


def test_gradients_accumulate_over_backwards():
    module = as_torch(Linear(2, 2))
    for _ in range(2):
        module(torch.ones(1, 2)).sum().backward()
    assert module.weight.grad.tolist() == [[2, 2], [2, 2]]


def test_work_not_needed_is_not_done():
    calls = []

    class Watched(Linear):
        def backward(self, dy, *, input_gradient=True):
            calls.append((input_gradient, self.bias.requires_grad))
            return super().backward(dy, input_gradient=input_gradient)

    module = as_torch(Watched(2, 2))
    module(torch.ones(1, 2)).sum().backward()
    module(torch.ones(1, 2, requires_grad=True)).sum().backward()
    assert calls == [(False, True), (True, True)]
    module.bias.requires_grad_(False)
    module(torch.ones(1, 2)).sum().backward()
    assert calls[-1] == (False, False)
    module.requires_grad_(False)
    assert not module(torch.ones(1, 2)).requires_grad
    x = torch.ones(1, 2, requires_grad=True)
    module.weight.grad = None
    module(x).sum().backward()
    assert module.weight.grad is None
    assert x.grad is not None


def test_a_wrong_backward_still_raises_our_errors():
    class Forgetful(Module):
        def __init__(self):
            self.part = Linear(2, 2)

        def forward(self, x):
            return self.part(x) + self.part(x)

        def backward(self, dy, *, input_gradient=True):
            return self.part.backward(dy)

    with pytest.raises(RuntimeError, match="no backward took"):
        as_torch(Forgetful())(torch.ones(1, 2)).sum().backward()
