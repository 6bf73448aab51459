"""as_torch: a tensor that is put in the place of another on the module is the bare layer's, too."""

import copy

import pytest
import torch
from bridged_layers import HeldInAList, Tied, assert_all_close
from ds_core import LayerNorm, Linear, Module, Residual, Sequential
from ds_core.interop import as_torch, from_torch
from torch.nn.utils import prune


def fresh(tensor):
    return torch.nn.Parameter(torch.randn_like(tensor))


def nested():
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 3))
    return Sequential(Linear(3, 3), Residual(LayerNorm(3)), from_torch(theirs)).double()


def assert_one(module):
    """Both compute the same, and go on to after a step."""
    x = torch.randn(4, 3, dtype=torch.float64)
    for _ in range(2):
        torch.testing.assert_close(module.wrapped_layer.forward(x), module(x), rtol=0, atol=0)
        module.zero_grad()
        module(x).square().sum().backward()
        found = [p.grad for p in module.parameters()]
        assert_all_close(found, torch.autograd.grad(module.wrapped_layer(x).square().sum(), [*module.parameters()]))
        torch.optim.SGD(module.parameters(), lr=0.01).step()


def by_register(module, name, value):
    module.register_parameter(name, value)


@pytest.mark.parametrize("prepare", [lambda module: module, copy.deepcopy], ids=["itself", "copy"])
@pytest.mark.parametrize("put", [setattr, by_register])
@pytest.mark.parametrize("name", ["0.weight", "1.layer.bias", "2.0.weight"])
def test_a_new_parameter(put, name, prepare):
    module = prepare(as_torch(nested()))
    path, last = name.rsplit(".", 1)
    value = fresh(module.get_parameter(name))
    put(module.get_submodule(path), last, value)
    assert any(value is tensor for tensor in module.wrapped_layer.parameters())
    assert_one(module)


def test_of_a_foreign_layer_and_in_a_list():
    module = as_torch(HeldInAList())
    setattr(module, "0", fresh(module.wrapped_layer.tensors[0]))
    assert module.wrapped_layer.tensors[0] is module.get_parameter("0")
    module(torch.randn(4, 2)).sum().backward()
    assert module.get_parameter("0").grad is not None


def test_tied_ones_are_replaced_one_by_one_as_in_any_module():
    layer = Tied().double()
    module = as_torch(layer)
    kept = layer.embed.weight
    module.get_submodule("head").weight = fresh(kept)
    assert layer.embed.weight is kept
    assert layer.head.weight is module.get_parameter("head.weight")
    assert_one(module)


@pytest.mark.parametrize(
    ("parametrization", "name"),
    [
        ("weight_norm", ""),
        ("weight_norm", "0"),
        ("weight_norm", "1.layer"),
        ("spectral_norm", ""),
        ("spectral_norm", "0"),
        ("orthogonal", "0"),
    ],
)
def test_a_parametrization_that_is_removed(parametrization, name):
    layer = Linear(3, 3).double() if not name else nested()
    module = as_torch(layer)
    part = module.get_submodule(name)
    getattr(torch.nn.utils.parametrizations, parametrization)(part)
    module(torch.randn(4, 3, dtype=torch.float64)).sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.01).step()
    torch.nn.utils.parametrize.remove_parametrizations(part, "weight")
    assert part.wrapped_layer.weight is part.weight
    module.eval()
    assert_one(module)


def test_old_style_weight_norm_and_pruning_that_are_removed():
    module = as_torch(Linear(3, 3).double())
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(module)
    module(torch.randn(4, 3, dtype=torch.float64)).sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.01).step()
    torch.nn.utils.remove_weight_norm(module)
    assert_one(module)
    prune.l1_unstructured(module, "weight", amount=0.5)
    module(torch.ones(1, 3, dtype=torch.float64))
    prune.remove(module, "weight")
    assert (module.wrapped_layer.weight == 0).sum() == 4
    assert_one(module)


class Shift(Module):
    def __init__(self):
        self.weight = torch.ones(3, requires_grad=True)
        self.offset = torch.zeros(3)

    def forward(self, x):
        self.save()
        return x + self.offset


def test_a_new_buffer():
    layer = Shift()
    module = as_torch(Sequential(layer)).requires_grad_(False)
    for put in (setattr, lambda part, *named: part.register_buffer(*named)):
        value = torch.randn(3)
        put(module.get_submodule("0"), "offset", value)
        assert layer.offset is value
        assert torch.equal(module(torch.zeros(3)), value)


def test_a_bias_that_is_taken_away():
    module = as_torch(Sequential(Linear(3, 3).double()))
    module.get_submodule("0").bias = None
    assert module.wrapped_layer[0].bias is None
    assert_one(module)


def test_a_layer_with_two_wrappers_says_so():
    layer = Linear(3, 3).double()
    first, second = as_torch(layer), as_torch(layer)
    first.weight = fresh(layer.weight)
    with pytest.raises(TypeError, match="has been replaced on the layer, by another wrapper perhaps"):
        second(torch.ones(1, 3, dtype=torch.float64))
    assert_one(first)


def test_a_parameter_that_is_put_back_on_the_layer_is_not_the_modules():
    layer = Linear(3, 3).double()
    module, old = as_torch(layer), layer.weight
    module.weight = fresh(old)
    module(torch.ones(1, 3, dtype=torch.float64))
    layer.weight = old
    with pytest.raises(TypeError, match="has been replaced on the layer"):
        module(torch.ones(1, 3, dtype=torch.float64))
