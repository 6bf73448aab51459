"""RNN, LSTM and GRU in training: trajectories, dropout replayed, windows, dtypes, compiled, as torch modules."""

import copy

import pytest
import torch
from ds_core import record
from ds_core.interop import as_torch
from ds_core.testing import one_graph
from ds_rnn import GRU, LSTM, RNN
from ds_rnn.recurrent import recurrent
from random_cases import in_pairs, layer_results, random_states, same, tensors
from torch.nn.utils.rnn import pack_padded_sequence

CLASSES = pytest.mark.parametrize("layer_class", [RNN, LSTM, GRU])
BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])
DOUBLE = {"dtype": torch.float64}


@CLASSES
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_ten_steps_and_dropout_replayed(layer_class, optimizer, monkeypatch):
    """Ten steps follow those of PyTorch's layers, one for each of ours, with our masks between them."""
    masks = []

    def draw(x, p):
        masks.append((torch.rand_like(x) >= p).to(x.dtype) / (1 - p))
        return masks[-1]

    monkeypatch.setattr(recurrent, "draw_dropout_mask", draw)
    ours = layer_class(2, 3, 3, dropout=0.4, bidirectional=True, **DOUBLE)
    twin = getattr(torch.nn, layer_class.__name__)
    theirs = torch.nn.ModuleList(twin(size, 3, bidirectional=True, **DOUBLE) for size in (2, 6, 6))
    for index, layer in enumerate(theirs):
        layer.load_state_dict(
            {
                name.replace(f"_l{index}", "_l0"): tensor
                for name, tensor in ours.state_dict().items()
                if f"_l{index}" in name
            }
        )
    settings = {"lr": 0.1}
    steppers = [optimizer(module.parameters(), **settings) for module in (ours, theirs)]
    for _ in range(10):
        masks.clear()
        x, dy = torch.randn(4, 5, 2, dtype=torch.float64), torch.randn(4, 5, 6, dtype=torch.float64)
        for stepper in steppers:
            stepper.zero_grad()
        with record():
            y, _ = ours(x)
            ours.backward(dy)
        between = [torch.ones((), dtype=torch.float64), *(mask.view(4, 5, 6) for mask in masks)]
        z = x
        for layer, mask in zip(theirs, between, strict=True):
            z, _ = layer(z * mask)
        z.backward(dy)
        same(y, z)
        for stepper in steppers:
            stepper.step()
    assert len(masks) == 2
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-10)


@CLASSES
def test_dropout_drops_between_layers_in_training_only(layer_class):
    x = torch.randn(4, 3, 2)
    layer = layer_class(2, 3, 2, dropout=1)
    silent = copy.deepcopy(layer)
    silent.weight_ih_l1.data.zero_()
    assert torch.equal(layer(x)[0], silent(x)[0])
    assert not torch.equal(layer.eval()(x)[0], silent(x)[0])
    single = layer_class(2, 3, 1, dropout=1)
    assert torch.equal(single(x)[0], single.eval()(x)[0])


@CLASSES
@BOTH
def test_bfloat16(layer_class, implementation):
    """Dtypes are kept, and results are near those of float32."""
    layer = layer_class(4, 8, 2, bidirectional=True, implementation=implementation)
    x, dy = torch.randn(3, 2, 4), torch.randn(3, 2, 16)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    layer.load_state_dict({name: tensor.float() for name, tensor in half.state_dict().items()})
    rounded = x.bfloat16(), dy.bfloat16()
    found = []
    for one, (given, grad) in ((half, rounded), (layer, [tensor.float() for tensor in rounded])):
        last = [torch.zeros_like(state).to(given) for state in random_states(layer, 2)]
        found.append(layer_results(one, given, grads=[grad, *last]))
    assert {tensor.dtype for tensor in found[0]} == {torch.bfloat16}
    for mine, wide in zip(*found, strict=True):
        assert (mine.float() - wide).norm() <= 0.04 * wide.norm()


@CLASSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of_state", [None, torch.float32, torch.bfloat16])
def test_autocast(layer_class, dtype, of_state):
    """Under autocast the steps are calculated in the dtype of the parameters, and gradients come in that of inputs."""
    layer, x = layer_class(2, 3, 2), torch.randn(4, 2, 2).to(dtype)
    states = [] if of_state is None else [state.to(of_state) for state in random_states(layer, 2)]
    grads = [torch.randn(4, 2, 3), *(state.float() for state in random_states(layer, 2))]
    expected = layer_results(layer, x.float(), [state.float() for state in states], grads=grads)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer_results(layer, x, states, grads=grads)
    kinds = len(layer.state_names)
    expected[1 + kinds] = expected[1 + kinds].to(dtype)
    for index in range(2 + kinds, 2 + 2 * kinds):
        expected[index] = expected[index].to(of_state or dtype)
    assert all(one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@CLASSES
@pytest.mark.parametrize("lengths", [None, [4, 2]])
def test_shapes_alone_on_the_meta_device(layer_class, lengths):
    layer = layer_class(2, 3, bidirectional=True).to("meta")
    y, last = layer(torch.empty(4, 2, 2, device="meta"), lengths=lengths)
    assert (y.shape, tensors(last)[0].shape, y.device.type) == ((4, 2, 6), (2, 2, 3), "meta")


@CLASSES
def test_compiles_whole(layer_class):
    layer = layer_class(2, 3, bidirectional=layer_class is RNN)  # the smallest graph, which takes seconds to trace
    states = [state.float() for state in random_states(layer, 2)]

    def step(x, *states):
        layer.zero_grad()
        with record():
            y, last = layer(x, in_pairs(list(states)))
            dx, dfirst = layer.backward(y, last)
        return y, last, dx, dfirst, [parameter.grad for parameter in layer.parameters()]

    compiled = one_graph(step)
    for _ in range(2):
        x = torch.randn(2, 2, 2)
        torch.testing.assert_close(compiled(x, *states), step(x, *states))


@CLASSES
def test_as_torch_trains(layer_class):
    module = as_torch(layer_class(2, 3, **DOUBLE))
    twin = getattr(torch.nn, layer_class.__name__)(2, 3, **DOUBLE)
    twin.load_state_dict(module.state_dict())
    x = torch.randn(4, 3, 2, dtype=torch.float64)
    for net in (module, twin):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            y, last = net(x)
            (y.square().sum() + sum(tensor.sum() for tensor in tensors(last))).backward()
            optimizer.step()
    for mine, other in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


@CLASSES
@pytest.mark.parametrize("states", [False, True])
def test_as_torch_takes_packed_batches(layer_class, states):
    ours = layer_class(2, 3, **DOUBLE)
    theirs = getattr(torch.nn, layer_class.__name__)(2, 3, **DOUBLE)
    theirs.load_state_dict(ours.state_dict())
    x, dy = torch.randn(4, 3, 2, **DOUBLE), torch.randn(9, 3, **DOUBLE)
    start = torch.randn(1, 3, 3, **DOUBLE)
    found = []
    for module in (as_torch(ours), theirs):
        leaf, h0 = x.clone().requires_grad_(), start.clone().requires_grad_()
        packed = pack_padded_sequence(leaf, [2, 4, 3], enforce_sorted=False)
        hx = ((h0, start) if layer_class is LSTM else h0) if states else None
        y, last = module(packed, hx)
        assert type(y) is type(packed)
        (y.data * dy).sum().backward()
        found.append([y.data, last[0], leaf.grad, h0.grad, *(weight.grad for weight in module.parameters())])
    for one, other in zip(*found, strict=True):
        if one is None:
            assert other is None
            assert not states
        else:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@CLASSES
def test_truncated_windows(layer_class):
    """States carried on are constants, so each window's gradients are those of PyTorch with detached states."""
    ours = layer_class(2, 3, 2, **DOUBLE)
    theirs = getattr(torch.nn, layer_class.__name__)(2, 3, 2, **DOUBLE)
    theirs.load_state_dict(ours.state_dict())
    x, dy = torch.randn(6, 4, 2, dtype=torch.float64), torch.randn(6, 4, 3, dtype=torch.float64)
    mine, other = None, None
    for window in (slice(0, 3), slice(3, 6)):
        with record():
            y, mine = ours(x[window], mine)
            ours.backward(dy[window])
        z, other = theirs(x[window], other)
        z.backward(dy[window])
        other = in_pairs([state.detach() for state in tensors(other)])
        same(y, z)
    for one, parameter in zip(ours.parameters(), theirs.parameters(), strict=True):
        same(one.grad, parameter.grad)


@CLASSES
def test_windows_of_one_pass_are_the_whole(layer_class):
    """With the states' gradients handed back, two windows give the gradients of the whole sequence."""
    layer = layer_class(2, 3, 2, **DOUBLE)
    x = torch.randn(6, 4, 2, dtype=torch.float64)
    grads = [torch.randn(6, 4, 3, dtype=torch.float64), *random_states(layer, 4)]
    expected = layer_results(layer, x, grads=grads)
    layer.zero_grad()
    with record():
        first, state = layer(x[:2])
        second, last = layer(x[2:], state)
        dlater, dstate = layer.backward(grads[0][2:], in_pairs(grads[1:]))
        dearlier, dstart = layer.backward(grads[0][:2], dstate)
    found = [torch.cat([first, second]), *tensors(last), torch.cat([dearlier, dlater]), *tensors(dstart)]
    for one, other in zip([*found, *(p.grad for p in layer.parameters())], expected, strict=True):
        same(one, other)
