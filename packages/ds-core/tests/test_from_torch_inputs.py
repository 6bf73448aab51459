"""from_torch and from_autograd: each input gets its gradient, however it is passed; what nobody fetches is refused."""

import pytest
import torch
from bridged_layers import Span, assert_all_close, autograd_of
from ds_core import Linear, Sequential, record
from ds_core.interop import as_torch, from_autograd, from_torch


class Ratio(torch.nn.Module):
    """first * weight / second; not the same in its two inputs."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, first, second, *, scale=None):
        y = first * self.weight / second
        return y if scale is None else y * scale


def inputs():
    torch.manual_seed(0)
    return torch.randn(4, 3), torch.rand(4, 3) + 1, torch.randn(3)


def by_function(module):
    return from_autograd(lambda first, second, scale: module(first, second, scale=scale))


@pytest.mark.parametrize("wrap", [from_torch, by_function])
@pytest.mark.parametrize("order", ["first second scale", "second scale first", "scale second first"])
@pytest.mark.parametrize("positional", [0, 1, 2])
def test_keywords_get_gradients_in_the_order_of_the_signature(wrap, order, positional):
    module, values = Ratio().requires_grad_(False), inputs()
    named = dict(zip(("first", "second", "scale"), values, strict=True))
    options = {name: named[name] for name in order.split() if name not in [*named][:positional]}
    layer = wrap(module)
    leaves = [value.clone().requires_grad_() for value in values]
    with record():
        y = layer(*values[:positional], **options)
        dy = torch.cos(y)
        found = layer.backward(dy)
    assert_all_close(found, torch.autograd.grad(module(*leaves[:2], scale=leaves[2]), leaves, dy))
    # and there and back again
    given = dict(zip(named, leaves, strict=True))
    y = as_torch(wrap(module))(*leaves[:positional], **{name: given[name] for name in options})
    assert_all_close(found, torch.autograd.grad(y, leaves, dy))


def test_a_keyword_reaches_the_layer_before():
    class Named(torch.nn.Module):
        def forward(self, h):
            return h.square()

    before, layer, x = Linear(3, 2), from_torch(Named()), inputs()[0]
    with record():
        y = layer(h=before(x))
        dx = before.backward(layer.backward(torch.ones_like(y)))
    ours = [dx, *[p.grad for p in before.parameters()]]
    assert_all_close(ours, autograd_of(Sequential(before, layer), x, dy=torch.ones_like(y)))


def test_keywords_of_a_function_without_a_signature():
    x, y = inputs()[0], inputs()[1]
    layer = from_autograd(torch.atan2)
    with record():
        layer(input=x, other=y)
        found = layer.backward(torch.ones(4, 3))
    leaves = [x.clone().requires_grad_(), y.clone().requires_grad_()]
    assert_all_close(found, torch.autograd.grad(torch.atan2(*leaves).sum(), leaves))


def test_a_module_that_uses_a_parameter_from_outside_is_refused():
    outside = Linear(3, 3)

    class Closure(Ratio):
        def forward(self, first, second):
            return super().forward(outside(first), second)

    x, y, _ = inputs()
    refused = pytest.raises(
        TypeError, match=r"AutogradLayer\(Closure.* uses a parameter of shape \(3.*nobody would fetch"
    )
    with refused, record():
        from_torch(Closure())(x, y)
    outside.requires_grad_(False)
    layer = from_torch(Closure())
    with record():
        layer(x, y)
        assert len(layer.backward(torch.ones(4, 3))) == 2


def test_a_mask_that_learns_gets_its_gradient():
    attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    layer, x, mask = from_torch(attention), torch.randn(2, 3, 4), torch.randn(3, 3)
    with record():
        y, _ = layer(x, x, x, attn_mask=mask, need_weights=False)
        found = layer.backward(torch.cos(y))
    assert len(found) == 4
    mask.requires_grad_()
    y = attention(x, x, x, attn_mask=mask, need_weights=False)[0]
    torch.testing.assert_close(found[3], torch.autograd.grad(y, mask, torch.cos(y).detach())[0])


def test_complex_tensors_inside_and_between():
    rotation = torch.polar(torch.ones(3), torch.tensor([0.3, 1.0, 2.0]))

    class Turn(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(rotation * 2)

        def forward(self, z):
            return z * self.weight

    def power(z):
        return (z * torch.tensor([1 + 2j, 2 - 1j, 0.5j])).abs().square() + (z * z).imag

    x = torch.randn(4, 3)
    model = Sequential(Linear(3, 3), from_autograd(torch.fft.fft), from_torch(Turn()), from_autograd(power))
    with record():
        y = model(x)
        dx = model.backward(torch.cos(y))
    ours = [dx, *[p.grad for p in model.parameters()]]
    assert ours[-1].is_complex()
    assert_all_close(ours, autograd_of(model, x, dy=torch.cos(y)))


@pytest.mark.parametrize("activation", [torch.nn.ReLU, torch.nn.SiLU])
def test_a_layer_that_changes_its_input_in_place_is_named(activation):
    layer, x = from_torch(activation(inplace=True)), torch.ones(2)
    for wrapped in (layer, from_torch(torch.nn.Sequential(torch.nn.Flatten(0), activation(inplace=True)))):
        refused = pytest.raises(
            RuntimeError, match=r"^AutogradLayer\(.* changes its input, .* make it with inplace=False"
        )
        with refused, record():
            wrapped(x)
    behind = from_torch(torch.nn.Sequential(torch.nn.Linear(2, 2), activation(inplace=True)))
    with record():
        assert behind.backward(behind(x)).shape == (2,)


def test_a_table_that_shrinks_between_its_two_calls():
    table = torch.nn.Embedding(4, 3, max_norm=1.0)
    torch.nn.init.constant_(table.weight, 5.0)
    layer, first, second = from_torch(table), torch.tensor([0, 1]), torch.tensor([1, 2])
    with record():
        layer(first)
        layer(second)
        layer.backward(torch.ones(2, 3))
        layer.backward(torch.ones(2, 3))
    assert table.weight.grad[:, 0].tolist() == [1, 2, 1, 0]


def test_autograd_watches_the_parameters_it_reads():
    module = torch.nn.Linear(3, 3)
    layer = from_torch(module)
    with record():
        layer(torch.ones(2, 3))
        with torch.no_grad():
            module.weight.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            layer.backward(torch.ones(2, 3))


def test_dataclasses_that_check_and_compute():
    layer = from_autograd(lambda span: Span(span.low * span.size, span.size.square()))
    low, high = torch.randn(3), torch.randn(3)
    with record():
        y = layer(Span(low, high))
        assert not y.size.requires_grad
        gradient = layer.backward(Span(torch.ones(3), torch.full((3,), 2.0)))
    leaves = [low.clone().requires_grad_(), high.clone().requires_grad_()]
    y = layer(Span(*leaves))
    expected = torch.autograd.grad(y.low.sum() + 2 * y.high.sum(), leaves)
    assert_all_close([gradient.low, gradient.high], expected)
    with record():
        layer(Span(low, high))
        gradient = layer.backward(None)
    assert gradient is None
