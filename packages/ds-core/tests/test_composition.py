from collections import OrderedDict

import pytest
import torch
from ds_core import (
    Frozen,
    Linear,
    Module,
    Parallel,
    Recompute,
    Residual,
    Sequential,
    ShapeError,
    Tanh,
    accumulate,
    parameter,
    primitives_only,
    record,
)
from ds_core.engine.composition import backward_if, backward_without_input, merge_gradients, trainable
from ds_core.testing import check_layer


class Double(Module):
    """y = 2 x, without parameters: its backward takes no `input_gradient`."""

    def forward(self, x):
        self.save()
        return x * 2

    def backward(self, dy):
        self.saved()
        return None if dy is None else dy * 2


class Split(Module):
    """One input, two outputs: x and x^2."""

    def forward(self, x):
        self.save(x)
        return x * 1, x * x

    def backward(self, dfirst=None, dsecond=None):
        (x,) = self.saved()
        return merge_gradients(dfirst, None if dsecond is None else 2 * x * dsecond)


class Add(Module):
    """Takes the pair that `Split` gives."""

    def forward(self, pair):
        self.save()
        return pair[0] + pair[1]

    def backward(self, dy):
        self.saved()
        return dy, dy


def counted_backward(model, x, **options):
    """How many matrix products the backward of `model` takes; its entries are all taken."""
    with record():
        y = model(x)
        with primitives_only() as operations:
            model.backward(torch.ones_like(y), **options)
    return operations["mm"]


MODELS = {
    "sequential": lambda: Sequential(Linear(3, 4), Double(), Linear(4, 2)),
    "empty sequential": lambda: Sequential(),
    "residual": lambda: Residual(Sequential(Linear(3, 5), Linear(5, 3))),
    "parallel": lambda: Parallel(Linear(3, 2), Linear(3, 4), Double()),
    "parallel of pairs": lambda: Parallel(Sequential(Linear(3, 3), Split()), Linear(3, 1)),
    "pairs in sequence": lambda: Sequential(Linear(3, 3), Split(), Add(), Double()),
    "one layer twice": lambda: Sequential(*[Linear(3, 3)] * 3),
    "deep": lambda: Sequential(Residual(Sequential(Double(), Residual(Linear(3, 3)))), Parallel(Linear(3, 3))),
    "without parameters first": lambda: Sequential(Double(), Residual(Double()), Linear(3, 2)),
    "nothing to train": lambda: Sequential(Double(), Parallel(Double(), Residual(Double()))),
}


def test_worked_example():
    layer = Linear(2, 2, bias=False)
    layer.load_state_dict({"weight": torch.tensor([[1.0, -1.0], [2.0, 3.0]])})
    x, dy = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    with record():
        layer(x)
        assert layer.backward(dy).tolist() == [[-3, -7], [4, -1.5]]
        residual, parallel, sequential = Residual(layer), Parallel(layer, layer), Sequential(layer, layer)
        assert residual(x).tolist() == [[0, 10], [1, 26]]
        assert residual.backward(dy).tolist() == [[-2, -9], [7, -1]]
        parallel(x)
        assert parallel.backward(dy, 2 * dy)[1, 1].item() == -4.5
        sequential(x)
        assert sequential.backward(dy)[0, 0].item() == -17


@pytest.mark.parametrize("name", MODELS)
def test_gradients(name):
    torch.manual_seed(0)
    check_layer(MODELS[name](), torch.randn(2, 3))


@pytest.mark.parametrize(
    "name", [name for name in MODELS if name not in {"parallel", "parallel of pairs", "deep", "nothing to train"}]
)
def test_without_input_gradient_the_parameters_get_the_same(name):
    torch.manual_seed(0)
    model, x = MODELS[name](), torch.randn(2, 3)
    gradients = []
    for input_gradient in (True, False):
        with record() as trace:
            y = model(x)
            returned = model.backward(torch.ones_like(y), input_gradient=input_gradient)
            assert len(trace) == 0
        assert (returned is None) == (not input_gradient)
        gradients.append([tensor.grad for tensor in model.parameters()])
        model.zero_grad()
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_work_not_needed_is_not_done():
    x = torch.randn(2, 3)
    model = Sequential(Linear(3, 4), Linear(4, 4), Linear(4, 2))
    assert counted_backward(model, x) == 6
    assert counted_backward(model, x, input_gradient=False) == 5  # all but the first layer's input gradient
    model[0].requires_grad_(False)
    assert counted_backward(model, x, input_gradient=False) == 3
    model[1].requires_grad_(False)
    assert counted_backward(model, x, input_gradient=False) == 1  # the last layer's weight alone
    assert counted_backward(model, x) == 4
    model.requires_grad_(False)
    assert counted_backward(model, x, input_gradient=False) == 0


def test_parameterless_layers_in_front_are_not_gone_back_through():
    x = torch.randn(2, 3)
    assert counted_backward(Sequential(Double(), Residual(Double()), Linear(3, 2)), x, input_gradient=False) == 1
    with record():
        model = Sequential(Double(), Residual(Double()), Linear(3, 2))
        y = model(x)
        with primitives_only() as operations:
            model.backward(torch.ones_like(y), input_gradient=False)
    assert operations["mul"] == 0
    assert operations["add"] == 0


def test_residual_and_parallel_skip_what_only_the_input_needs():
    x = torch.randn(2, 3)
    assert counted_backward(Residual(Linear(3, 3)), x) == 2
    assert counted_backward(Residual(Linear(3, 3)), x, input_gradient=False) == 1
    branches = Parallel(Linear(3, 3), Linear(3, 3))
    with record():
        first, second = branches(x)
        with primitives_only() as operations:
            branches.backward(torch.ones_like(first), torch.ones_like(second), input_gradient=False)
    assert operations["mm"] == 2
    assert operations["add"] == 0


def test_a_none_gradient_takes_every_entry_and_does_no_work():
    model = Sequential(Linear(3, 3), Residual(Linear(3, 3)), Parallel(Linear(3, 3), Split()))
    with record() as trace:
        model(torch.randn(2, 3))
        with primitives_only() as operations:
            assert model.backward(None) is None
        assert len(trace) == 0
    assert sum(operations.values()) == 0
    assert all(tensor.grad is None for tensor in model.parameters())


def test_parallel_takes_none_and_missing_gradients_for_zeros():
    torch.manual_seed(0)
    model, x = Parallel(Linear(3, 2), Linear(3, 2), Linear(3, 2)), torch.randn(2, 3)
    dy = torch.randn(2, 2)
    with record():
        model(x)
        dx = model.backward(None, dy)
    torch.testing.assert_close(dx, dy @ model.layers[1].weight.detach())
    assert model.layers[0].weight.grad is None
    assert model.layers[2].weight.grad is None
    with record() as trace:
        model(x)
        with pytest.raises(TypeError, match="Parallel of 3 layers: given 4 gradients"):
            model.backward(dy, dy, dy, dy)
        trace.take()


def test_residual_leaves_the_given_gradient_alone():
    layer, dy = Residual(Linear(3, 3)), torch.ones(2, 3)
    with record():
        layer(torch.randn(2, 3))
        layer.backward(dy)
    assert dy.tolist() == [[1.0] * 3] * 2


def test_frozen_keeps_nothing_does_nothing_and_is_still_saved():
    backbone, head = Sequential(Linear(3, 4), Linear(4, 4)), Linear(4, 2)
    model = Sequential(Frozen(backbone), head)
    x = torch.randn(2, 3)
    with record() as trace:
        y = model(x)
        assert [line.layer.partition("(")[0] for line in trace.kept()] == ["Linear"]
        with primitives_only() as operations:
            assert model.backward(torch.ones_like(y), input_gradient=False) is None
    assert operations["mm"] == 1  # the head's weight
    assert all(tensor.grad is None for tensor in backbone.parameters())
    assert [name for name, _ in model.named_parameters()][:2] == ["0.layer.0.weight", "0.layer.0.bias"]
    assert len(model.state_dict()) == 6
    assert not backbone[0].weight.requires_grad
    assert head.weight.requires_grad


def test_frozen_stops_the_gradient_in_both_engines():
    first = Linear(3, 3)
    model = Sequential(first, Frozen(Linear(3, 3)), Linear(3, 2))
    x = torch.randn(2, 3)
    with record():
        y = model(x)
        assert model.backward(torch.ones_like(y)) is None
    assert first.weight.grad is None
    ours = model[2].weight.grad
    model.zero_grad()
    model(x).sum().backward()
    assert first.weight.grad is None
    torch.testing.assert_close(model[2].weight.grad, ours)


def test_sequential_is_a_sequence():
    layers = [Linear(1, 2), Double(), Linear(2, 3)]
    model = Sequential(*layers)
    assert len(model) == 3
    assert list(model) == layers
    assert model[1] is layers[1]
    assert model[-1] is layers[2]
    assert list(model[1:]) == layers[1:]
    assert list(model[1:].state_dict()) == ["2.weight", "2.bias"]
    last = Linear(3, 1)
    assert model.append(last) is model
    assert model[3] is last
    with pytest.raises(IndexError):
        model[4]


def test_sequential_with_names():
    model = Sequential({"hidden": Linear(1, 2), "output": Linear(2, 3)})
    theirs = torch.nn.Sequential(OrderedDict(hidden=torch.nn.Linear(1, 2), output=torch.nn.Linear(2, 3)))
    assert list(model.state_dict()) == list(theirs.state_dict())
    assert model.output is model[1]


def test_merge_gradients():
    one, two = torch.ones(2), torch.full((2,), 2.0)
    assert merge_gradients(None, None) is None
    assert merge_gradients(one, None) is one
    assert merge_gradients(None, two) is two
    assert merge_gradients(one, two).tolist() == [3, 3]
    assert one.tolist() == [1, 1]


def test_backward_without_input_takes_the_entries_of_a_frozen_layer():
    layer = Linear(3, 2).requires_grad_(False)
    with record() as trace:
        y = layer(torch.ones(1, 3))
        backward_without_input(layer, y)
        assert len(trace) == 0
    assert layer.weight.grad is None


@pytest.mark.parametrize("name", ["forward", "training", "a.b", ""])
def test_layers_cannot_take_the_names_of_methods(name):
    with pytest.raises(KeyError, match="cannot be named"):
        Sequential({name: Linear(2, 2)})


def test_a_residual_layer_of_another_shape_is_refused():
    for outputs in (1, 3):
        with pytest.raises(ShapeError, match=rf"gives \(3, {outputs}\) from an input \(3, 2\), expected the same"):
            Residual(Linear(2, outputs))(torch.randn(3, 2))


def test_append_to_a_slice_replaces_nothing():
    first, second, third, new = (Linear(2, 2) for _ in range(4))
    assert list(Sequential(first, second, third)[1:].append(new)) == [second, third, new]


@pytest.mark.parametrize("frozen", [False, True])
def test_backward_if(frozen):
    layer = Linear(3, 3).requires_grad_(not frozen)
    x, dy = torch.randn(2, 2, 3)
    for needed in (True, False):
        with record():
            layer(x)
            with primitives_only() as operations:
                dx = backward_if(needed, layer, dy)
        assert (dx is not None) == needed
        assert sum(operations.values()) > 0 or (frozen and not needed)
        assert (layer.weight.grad is None) == frozen
        assert operations["mm"] == needed + (not frozen)


def test_trainable_is_any_of_the_layers():
    layers = [Linear(2, 2).requires_grad_(False) for _ in range(2)]
    assert not trainable()
    assert not trainable(*layers)
    layers[1].bias.requires_grad_(True)
    assert trainable(*layers)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.relu, "given the function relu, which has no backward; ds_core.interop.from_autograd makes"),
        (lambda x: x, "given the function <lambda>, which has no backward"),
        (
            torch.nn.Linear(2, 2),
            "given a torch.nn.modules.linear.Linear, which has no backward; ds_core.interop.from_torch",
        ),
        (Linear, r"given the class Linear, expected a layer: write Linear\(...\)"),
        (None, "given None, expected a layer"),
        (3, "given 3, expected a layer"),
        ([Linear(2, 2)], r"given \[Linear\(.*\)\], expected a layer"),
    ],
)
def test_what_is_no_layer_is_refused(given, message):
    with pytest.raises(TypeError, match=rf"^Sequential.1: {message}"):
        Sequential(Linear(2, 2), given)
    model = Sequential(Linear(2, 2))
    with pytest.raises(TypeError, match=rf"^Sequential.1: {message}"):
        model.append(given)
    with pytest.raises(TypeError, match=rf"^Parallel.1: {message}"):
        Parallel(Linear(2, 2), given)
    for owner in (Residual, Frozen, Recompute):
        with pytest.raises(TypeError, match=rf"^{owner.__name__}: {message}"):
            owner(given)


def test_a_layer_that_cannot_leave_out_its_input_gradient_is_called_without_the_keyword():
    class Doubled(Module):
        def __init__(self):
            self.weight = parameter(torch.full((), 2.0))

        def forward(self, x):
            self.save(x)
            return x * self.weight

        def backward(self, dy):
            (x,) = self.saved()
            accumulate(self.weight, (dy * x).sum())
            return dy * self.weight

    for model in (Sequential(Doubled(), Tanh()), Residual(Doubled()), Parallel(Doubled())):
        with record():
            model(torch.ones(3))
            dy = torch.ones(3)
            assert model.backward(dy, input_gradient=False) is None
        assert [p.grad is not None for p in model.parameters()] == [True]
