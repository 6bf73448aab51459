"""as_torch: a tensor stays one tensor, whoever holds it: other layers, other wrappers, optimizers."""

import copy
import pickle

import pytest
import torch
from bridged_layers import Tied, network
from ds_core import Embedding, Linear, Sequential, parameter
from ds_core.interop import as_torch


def tied_layers():
    torch.manual_seed(0)
    embedding, head = Embedding(11, 6), Linear(6, 11, bias=False)
    head.weight = embedding.weight
    return embedding, head


def tied_modules(weight):
    embedding, head = torch.nn.Embedding(11, 6), torch.nn.Linear(6, 11, bias=False)
    embedding.weight.data.copy_(weight.detach())
    head.weight = embedding.weight
    return embedding, head


def train(embedding, head, steps, wrap=lambda layer: layer):
    """AdamW on `head(embedding(x))`; `wrap` is applied to the head after the first step."""
    optimizer = torch.optim.AdamW([embedding.weight], lr=0.1)
    for step in range(steps):
        x = torch.arange(20).reshape(4, 5) * (step + 3) % 11
        optimizer.zero_grad()
        logits = head(embedding(x)).flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, (x + 1).flatten() % 11).backward()
        optimizer.step()
        if step == 0:
            head = wrap(head)
    return embedding.weight, head.weight


@pytest.mark.parametrize("head_first", [False, True])
def test_tied_weights_in_two_wrappers_train_as_torchs_do(head_first):
    layers = tied_layers()
    expected, _ = train(*tied_modules(layers[0].weight), 5)
    if head_first:
        head = as_torch(layers[1])
        embedding = as_torch(layers[0])
    else:
        embedding, head = as_torch(layers[0]), as_torch(layers[1])
    assert embedding.weight is head.weight is layers[0].weight is layers[1].weight
    weight, again = train(embedding, head, 5)
    assert weight is again
    torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)


def test_the_second_wrapper_may_come_after_a_step():
    embedding, head = tied_layers()
    expected, _ = train(*tied_modules(embedding.weight), 5)
    wrapped = as_torch(embedding)
    # before it is wrapped the head runs by autograd
    weight, again = train(wrapped, head, 5, wrap=as_torch)
    assert weight is again
    torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)


def test_a_layer_in_two_wrappers():
    layer = network()
    whole, first = as_torch(layer), as_torch(layer[0])
    assert first.weight is whole.get_parameter("0.weight") is layer[0].weight
    assert as_torch(layer).get_parameter("0.weight") is first.weight
    x = torch.randn(3, 4)
    (whole(x).sum() + first(x).sum()).backward()
    oracle = network()
    (oracle(x).sum() + oracle[0](x).sum()).backward()
    for found, expected in zip(whole.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


def test_a_weight_shared_with_a_torch_module():
    layer, theirs = Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
    module = as_torch(layer)
    theirs.weight = module.weight
    x, weight = torch.randn(3, 2), layer.weight.detach().clone().requires_grad_()
    theirs(module(x)).square().sum().backward()
    torch.mm(torch.mm(x, weight.t()), weight.t()).square().sum().backward()
    torch.testing.assert_close(module.weight.grad, weight.grad)


def test_an_optimizer_made_before_wrapping_trains_the_module():
    layer = Linear(2, 2)
    weight, before = layer.weight, layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    module = as_torch(layer)
    assert module.weight is weight
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(module.weight.detach(), before - 1)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_made_together_stay_tied(duplicate):
    embedding, head = duplicate([as_torch(layer) for layer in tied_layers()])
    assert embedding.weight is head.weight is head.wrapped_layer.weight


def test_memory_given_to_meta_tensors():
    for empty in (lambda module, layer: layer.to_empty("cpu"), lambda module, layer: module.to_empty(device="cpu")):
        layer = Linear(2, 2, device="meta")
        module = as_torch(layer)
        empty(module, layer)
        assert isinstance(module.weight, torch.nn.Parameter)
        assert module.weight is layer.weight
        assert module(torch.ones(1, 2)).device.type == "cpu"


def test_tied_names_may_be_set_apart_as_in_torch():
    module = as_torch(Tied())
    module.head.weight = torch.nn.Parameter(module.embed.weight.detach() + 1)
    x = torch.randn(2, 3)
    embed, head = (weight.detach().clone().requires_grad_() for weight in (module.embed.weight, module.head.weight))
    module(x).square().sum().backward()
    y = torch.mm(torch.mm(x, embed.t()), head.t()) + module.head.bias.detach()
    y.square().sum().backward()
    torch.testing.assert_close(module.embed.weight.grad, embed.grad)
    torch.testing.assert_close(module.head.weight.grad, head.grad)
    replaced = torch.randn(3, 3, requires_grad=True)
    torch.func.functional_call(module, {"head.weight": replaced}, (x,), tie_weights=False).sum().backward()
    assert replaced.grad is not None


def test_a_parameter_replaced_on_the_layer_is_noticed():
    layer = Sequential(Linear(2, 2))
    module = as_torch(layer)
    layer[0].weight = parameter(torch.zeros(2, 2))
    with pytest.raises(TypeError, match=r"0\.weight of Sequential\(\) has been replaced on the layer"):
        module(torch.ones(1, 2))
    module = as_torch(layer)
    as_torch(layer[0]).load_state_dict({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, assign=True)
    with pytest.raises(TypeError, match="by another wrapper perhaps"):
        module(torch.ones(1, 2))


def test_a_parameter_that_came_later_is_noticed():
    layer = Sequential(Linear(2, 2))
    module = as_torch(layer)
    layer.append(Linear(2, 2))
    with pytest.raises(TypeError, match=r"has got a parameter of shape \(2, 2\) since it was wrapped"):
        module(torch.ones(1, 2)).sum().backward()
