"""as_torch: complex tensors, dataclasses of any kind, and containers that the bridge does not look into."""

from collections import UserDict, deque
from dataclasses import InitVar, dataclass, field
from types import SimpleNamespace

import pytest
import torch
from bridged_layers import Span, assert_all_close
from ds_core import Linear, Module, Recompute, accumulate, parameter
from ds_core.interop import as_torch, from_torch


class Turn(Module):
    """y = x w, complex; so dx = dy conj(w), of which a real x takes the real part."""

    def __init__(self):
        self.weight = parameter(torch.polar(torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])))

    def forward(self, x):
        self.save(x)
        return x * self.weight

    def backward(self, dy):
        (x,) = self.saved()
        accumulate(self.weight, (dy * x.conj()).sum(0))
        dx = dy * self.weight.conj()
        return dx if x.is_complex() else dx.real


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_complex_tensors_as_autograd_has_them(dtype):
    layer, target = Turn(), torch.randn(3, 2, dtype=torch.complex64)
    x = torch.randn(3, 2, dtype=dtype, requires_grad=True)
    results = []
    for run in (as_torch(layer), layer.forward):
        y = run(x)
        assert y.requires_grad
        results.append(torch.autograd.grad((y - target).abs().square().sum(), [x, layer.weight]))
    assert_all_close(*results)


@dataclass(frozen=True)
class Still:
    low: torch.Tensor
    high: torch.Tensor
    name: str = "still"

    def __post_init__(self):
        assert self.low.shape == self.high.shape


@dataclass(slots=True)
class Scaled:
    """Changes what it is given, so it must not be made twice."""

    low: torch.Tensor
    high: torch.Tensor
    factor: InitVar[float]
    size: torch.Tensor = field(init=False)

    def __post_init__(self, factor):
        self.low = self.low * factor
        self.high = self.high * factor
        self.size = self.high - self.low


def gradients(loss, tensors):
    return torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True)


MAKE = {Span: Span, Still: Still, Scaled: lambda low, high: Scaled(low, high, 1.5)}


def make(kind, low, high):
    return MAKE[kind](low, high)


class Widen(Module):
    """A dataclass of low and high to one of low - w and high w."""

    def __init__(self, kind):
        self.kind = kind
        self.weight = parameter(torch.tensor([0.5, 2.0]))

    def forward(self, span):
        self.save(span.high)
        return make(self.kind, span.low - self.weight, span.high * self.weight)

    def backward(self, dspan):
        (high,) = self.saved()
        if dspan is None:
            return None
        factor = 1.5 if self.kind is Scaled else 1.0
        dlow = torch.zeros_like(high) if dspan.low is None else dspan.low * factor
        dhigh = torch.zeros_like(high) if dspan.high is None else dspan.high * factor
        accumulate(self.weight, dhigh * high - dlow)
        return Span(dlow, dhigh * self.weight)


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("used", ["low", "high", "both"])
def test_dataclasses_that_check_and_compute(kind, used):
    layer = Widen(kind)
    low, high = torch.randn(2, requires_grad=True), torch.randn(2, requires_grad=True)
    results = []
    for run in (as_torch(layer), layer.forward):
        y = run(make(kind, low, high))
        assert type(y) is kind
        loss = sum((getattr(y, name) ** 2).sum() for name in (["low", "high"] if used == "both" else [used]))
        results.append([y.low, y.high, *gradients(loss, [low, high, layer.weight])])
    assert_all_close(*results)


def test_a_computed_field_has_its_gradient_by_what_it_was_computed_from():
    layer = Widen(Span)
    span = Span(torch.randn(2, requires_grad=True), torch.randn(2, requires_grad=True))
    results = []
    for run in (as_torch(layer), layer.forward):
        loss = run(span).size.square().sum()
        results.append(torch.autograd.grad(loss, [span.low, span.high, layer.weight]))
    assert_all_close(*results)


def test_a_computed_field_that_cannot_be_computed_again_has_none():
    y = as_torch(Widen(Scaled))(Span(torch.randn(2), torch.randn(2)))
    torch.testing.assert_close(y.size, y.high - y.low)
    with pytest.raises(TypeError, match=r"as_torch: an output of Widen.* does not take as a field.* compute it from"):
        y.size.sum().backward()


class Reads(Module):
    def forward(self, x, box):
        self.save()
        return x * 2

    def backward(self, dy):
        self.saved()
        return dy * 2


@pytest.mark.parametrize(
    "pack",
    [lambda t: UserDict(x=t), lambda t: SimpleNamespace(x=[t]), lambda t: deque([t]), lambda t: {t}],
    ids=["UserDict", "SimpleNamespace", "deque", "set"],
)
def test_a_gradient_hidden_in_an_argument_is_refused(pack, request):
    module, hidden = as_torch(Reads()), torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=f"is given a {request.node.callspec.id} with a tensor in it that requires"):
        module(torch.ones(2), pack(hidden))
    with torch.no_grad():
        module(torch.ones(2), pack(hidden))
    module(torch.ones(2), pack(hidden.detach()))
    module(torch.ones(2), Linear(2, 2))  # a layer's parameters are its own business


@pytest.mark.parametrize("wrap", [Recompute, lambda layer: Recompute(Recompute(layer))])
@pytest.mark.parametrize("inner", ["ours", "theirs"])
def test_keywords_through_a_layer_that_hands_them_on(wrap, inner):
    class Ratio(Module):
        def forward(self, first, second):
            self.save(first, second)
            return first / second

        def backward(self, dy):
            first, second = self.saved()
            return dy / second, -dy * first / second**2

    class TheirRatio(torch.nn.Module):
        def forward(self, first, second):
            return first / second

    layer = wrap(Ratio() if inner == "ours" else from_torch(TheirRatio()))
    first, second = torch.randn(3, requires_grad=True), (torch.rand(3) + 1).requires_grad_()
    y = as_torch(layer)(second=second, first=first)
    found = torch.autograd.grad(y.sum(), [first, second])
    assert_all_close(found, torch.autograd.grad((first / second).sum(), [first, second]))
