"""as_torch: parameters, buffers, state, modes and copies are those of the layer."""

import copy
import pickle

import pytest
import torch
from bridged_layers import HeldInAList, HeldInATuple, Noise, Tied, assert_all_close, autograd_of, network
from ds_core import Linear, Sequential
from ds_core.interop import as_torch


def test_the_layers_leaves_become_the_modules_parameters():
    layer = network()
    weight = layer[0].weight
    weight.grad = torch.ones_like(weight)
    module = as_torch(layer)
    assert [n for n, _ in module.named_parameters()] == [n for n, _ in layer.named_parameters()]
    assert all(a is b for a, b in zip(module.parameters(), layer.parameters(), strict=True))
    assert all(isinstance(p, torch.nn.Parameter) for p in module.parameters())
    assert layer[0].weight.data_ptr() == weight.data_ptr()
    assert layer[0].weight.grad is weight.grad
    frozen = Linear(2, 2).requires_grad_(False)
    assert not any(p.requires_grad for p in as_torch(frozen).parameters())


def test_shared_parameters_stay_shared():
    layer = Tied()
    module = as_torch(layer)
    assert layer.embed.weight is layer.head.weight is module.embed.weight is module.head.weight
    assert [n for n, _ in module.named_parameters()] == ["embed.weight", "head.bias"]
    x, dy = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    module(x).backward(dy)
    assert_all_close([x.grad, *[p.grad for p in module.parameters()]], autograd_of(layer, x, dy=dy))


def test_state_dict_keys_and_buffers():
    layer = Sequential(Linear(2, 2), Noise(), Linear(2, 3, bias=False))
    module = as_torch(layer)
    assert set(module.state_dict()) == set(layer.state_dict())
    assert {n for n, _ in module.named_buffers()} == {"1.count", "1._scratch"}
    values = {name: torch.full_like(tensor, 3) for name, tensor in module.state_dict().items()}
    module.load_state_dict(values)
    assert layer[0].weight.tolist() == [[3, 3], [3, 3]]
    assert layer[1].count.item() == 3
    module.load_state_dict({name: tensor + 1 for name, tensor in values.items()}, assign=True)
    assert layer[0].weight.tolist() == [[4, 4], [4, 4]]
    assert layer[0].weight is module.get_parameter("0.weight")
    assert layer[1].count is module.get_buffer("1.count")


def test_conversions_reach_the_layer():
    layer = Sequential(Linear(2, 2), Noise())
    module = torch.nn.Sequential(as_torch(layer)).double()
    assert layer[0].weight.dtype == layer[1].count.dtype == torch.float64
    assert layer[1].count is module[0].get_buffer("1.count")
    assert module(torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float64


def test_train_and_eval_reach_the_layer():
    layer = Sequential(Noise()).eval()
    module = as_torch(layer)
    assert not module.training
    outer = torch.nn.Sequential(module).train()
    assert layer[0].training
    outer.eval()
    assert not layer[0].training


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_whole_and_apart(duplicate):
    module = as_torch(Tied())
    twin = duplicate(module)
    assert twin.embed.weight is twin.head.weight
    with torch.no_grad():
        twin.embed.weight.zero_()
    x = torch.randn(2, 3)
    assert torch.equal(twin(x), twin.head.bias.expand(2, 3))
    assert not torch.equal(module(x), twin(x))
    twin(x).sum().backward()
    assert twin.embed.weight.grad is not None
    assert module.embed.weight.grad is None


def test_functional_call_and_parametrizations():
    layer = Linear(2, 2, bias=False)
    module = as_torch(layer)
    x = torch.ones(1, 2)
    replaced = torch.full((2, 2), 3.0, requires_grad=True)
    y = torch.func.functional_call(module, {"weight": replaced * 2}, (x,))
    assert y.tolist() == [[12, 12]]
    assert layer.weight is module.weight
    y.sum().backward()
    assert replaced.grad.tolist() == [[2, 2], [2, 2]]
    assert module.weight.grad is None
    torch.nn.utils.parametrizations.weight_norm(module)
    module(x).sum().backward()
    assert module.parametrizations.weight.original0.grad is not None


def test_a_foreign_layer():
    layer = HeldInAList()
    module = as_torch(layer)
    assert [n for n, _ in module.named_parameters()] == ["0"]
    assert layer.tensors[0] is next(module.parameters())
    module(torch.full((1, 2), 3.0)).sum().backward()
    assert layer.tensors[0].grad.tolist() == [3, 3]
    with pytest.raises(TypeError, match=r"HeldInATuple\(\) holds 0 in no attribute"):
        as_torch(HeldInATuple())


def test_repr_shows_the_layer():
    assert repr(as_torch(Linear(2, 2))) == "as_torch(Linear(in_features=2, out_features=2, bias=True))"
