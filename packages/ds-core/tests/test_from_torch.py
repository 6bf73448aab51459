"""from_torch: a torch.nn module as a layer, whose gradients are autograd's."""

import copy

import torch
from bridged_layers import assert_all_close, autograd_of
from ds_core import Linear, Recompute, Sequential, record
from ds_core.interop import as_torch, from_torch
from torch.utils.checkpoint import checkpoint


def torch_network(seed=0):
    torch.manual_seed(seed)
    nn = torch.nn
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))


def test_gradients_under_record_and_under_autograd():
    module, x = torch_network(), torch.randn(6, 4)
    layer = Sequential(Linear(4, 4), from_torch(module), Linear(3, 2))
    torch.manual_seed(1)
    with record():
        y = layer(x)
        dy = torch.randn_like(y)
        dx = layer.backward(dy)
    ours = [dx, *[p.grad for p in layer.parameters()]]
    layer.zero_grad()
    assert len(ours) == 1 + 10
    torch.manual_seed(1)
    assert_all_close(ours, autograd_of(layer, x, dy=dy))


def test_state_parameters_buffers_and_mode_pass_through():
    module = torch_network()
    layer = Sequential(from_torch(module))
    assert list(layer.state_dict()) == [f"0.{name}" for name in module.state_dict()]
    assert [n for n, _ in layer[0].named_parameters()] == [n for n, _ in module.named_parameters()]
    assert [n for n, _ in layer[0].named_buffers()] == [n for n, _ in module.named_buffers()]
    assert all(a is b for a, b in zip(layer.parameters(), module.parameters(), strict=True))
    layer.load_state_dict({f"0.{name}": tensor for name, tensor in torch_network(5).state_dict().items()})
    assert torch.equal(module[0].weight, torch_network(5)[0].weight)
    layer.eval()
    assert not any(m.training for m in module.modules())
    assert not layer[0].training
    layer.train().double()
    assert module[3].training
    assert module[1].running_mean.dtype == torch.float64


def test_non_persistent_buffers_are_not_saved():
    module = torch.nn.Linear(2, 2)
    module.register_buffer("scratch", torch.zeros(2), persistent=False)
    assert list(from_torch(module).state_dict()) == ["weight", "bias"]


def test_it_says_whose_gradients_they_are():
    assert repr(from_torch(torch.nn.Linear(2, 2))) == "AutogradLayer(Linear, gradients by autograd)"
    with record() as trace:
        layer = from_torch(torch.nn.Linear(2, 2))
        layer(torch.ones(1, 2))
        assert "gradients by autograd" in trace.kept()[0].layer
        layer.backward(None)


def test_none_takes_the_entry():
    layer = from_torch(torch.nn.Linear(2, 2))
    with record() as trace:
        layer(torch.ones(1, 2))
        assert layer.backward(None) is None
        assert len(trace) == 0
    assert layer._function.weight.grad is None


def test_nested_inputs_and_outputs():
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(2, 3)
    layer = from_torch(lstm)
    x, h, c = torch.randn(4, 1, 2), torch.randn(1, 1, 3), torch.randn(1, 1, 3)
    with record():
        y, (_, c1) = layer(x, (h, c))
        dx, (dh, dc) = layer.backward(torch.ones_like(y), (None, torch.ones_like(c1)))
    ours = [dx, dh, dc, *[p.grad for p in lstm.parameters()]]
    lstm.zero_grad()
    inputs = [t.requires_grad_() for t in (x, h, c)]
    y, (_, c1) = lstm(x, (h, c))
    assert_all_close(ours, torch.autograd.grad(y.sum() + c1.sum(), [*inputs, *lstm.parameters()]))


def test_integer_inputs_have_no_gradient_and_frozen_parameters_neither():
    embedding = torch.nn.Embedding(5, 2)
    layer = from_torch(embedding)
    with record():
        y = layer(torch.tensor([1, 1]))
        assert layer.backward(torch.ones_like(y)) is None
    assert embedding.weight.grad[1].tolist() == [2, 2]
    frozen = from_torch(torch.nn.Linear(2, 2).requires_grad_(False))
    with record():
        y = frozen(torch.ones(1, 2))
        assert frozen.backward(y).shape == (1, 2)
    assert all(p.grad is None for p in frozen.parameters())


def test_gradients_own_their_memory():
    class Shift(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Parameter(torch.zeros(2))
            self.second = torch.nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return x + self.first + self.second

    layer, dy = from_torch(Shift()), torch.ones(2)
    with record():
        for _ in range(2):
            layer(torch.zeros(2))
        for _ in range(2):
            layer.backward(dy)
    assert [p.grad.tolist() for p in layer.parameters()] == [[2, 2], [2, 2]]
    assert dy.tolist() == [1, 1]


def test_recomputed_with_the_same_draws_and_statistics():
    results = []
    for wrap in (lambda layer: layer, Recompute, lambda layer: Recompute(Sequential(Recompute(layer)))):
        module = torch_network()
        layer = wrap(from_torch(module))
        torch.manual_seed(3)
        x = torch.randn(6, 4)
        with record():
            y = layer(x)
            dx = layer.backward(torch.cos(y))
        results.append([y, dx, *[p.grad for p in module.parameters()], *module.buffers(), torch.rand(1)])
    assert_all_close(results[0], results[1])
    assert_all_close(results[0], results[2])


def test_back_to_torch_with_retained_graphs_and_checkpointing():
    module = as_torch(Sequential(Linear(4, 4), from_torch(torch.nn.Linear(4, 3))))
    assert [n for n, _ in module.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    x = torch.randn(2, 4, requires_grad=True)
    y = module(x)
    first = torch.autograd.grad(y.sum(), [x, *module.parameters()], retain_graph=True)
    assert_all_close(first, torch.autograd.grad(y.sum(), [x, *module.parameters()]))
    y = checkpoint(module, x, use_reentrant=False)
    assert_all_close(first, torch.autograd.grad(y.sum(), [x, *module.parameters()]))
    twin = copy.deepcopy(module)
    twin(x).sum().backward()
    assert module.get_parameter("1.weight").grad is None
