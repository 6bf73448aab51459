"""What backward reads must be what forward saw: every change in between raises and names layer and tensor."""

import copy

import ds_core
import pytest
import torch
from ds_core import (
    GELU,
    SGD,
    Adam,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    Recompute,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    TraceError,
    accumulate,
    linear,
    linear_backward,
    no_record,
    parameter,
    record,
)
from ds_core.engine.trace import save, take_saved

X = torch.tensor([[0.3, -1.2, 0.7], [1.1, 0.4, -0.6]])


def changed_between(layer, x, change):
    """Forward, `change(x, y)`, backward."""
    with record():
        y = layer(x)
        change(x, y)
        layer.backward(torch.ones_like(y))


CHANGES = {
    "mul_": lambda tensor: tensor.mul_(0),
    "a part of it": lambda tensor: tensor[0].zero_(),
    "a view of it": lambda tensor: tensor.view(-1).add_(1),
    "detached": lambda tensor: tensor.detach().add_(1),
    "out=": lambda tensor: torch.add(torch.ones(2, 3), 1, out=tensor),
    "copy_": lambda tensor: tensor.copy_(torch.ones(2, 3)),
    "an index": lambda tensor: tensor.__setitem__((0, 0), 5.0),
    "foreach": lambda tensor: torch._foreach_mul_([tensor], 2.0),
    "under no_record()": lambda tensor: changed_under_no_record(tensor),
}


def changed_under_no_record(tensor):
    with no_record():
        tensor.add_(1)


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_an_input_changed_in_place_is_refused(change):
    layer = Linear(3, 4)
    with pytest.raises(TraceError) as caught:
        changed_between(layer, X.clone(), lambda x, y: change(x))
    assert str(caught.value) == (
        "backward of Linear(in_features=3, out_features=4, bias=True): the tensor it keeps for backward, of shape "
        "(2, 3), was changed in place since its forward, so that its gradients would be wrong; change it after "
        "backward, or change a copy"
    )
    assert layer.weight.grad is None


@pytest.mark.parametrize("layer", [Tanh(), Sigmoid(), Softmax(-1), Sequential(Tanh())], ids=repr)
def test_an_output_that_is_kept_and_changed_in_place_is_refused(layer):
    with pytest.raises(
        TraceError, match=r"backward of (Tanh|Sigmoid|Softmax).*of shape \(2, 3\), was changed in place"
    ):
        changed_between(layer, X.clone(), lambda x, y: y.mul_(2))


def test_what_no_backward_reads_may_change():
    layer = GELU()  # keeps the slope, neither its input nor its output
    with record():
        x = X.clone()
        y = layer(x)
        before = torch.ones_like(y)
        x.zero_()
        y.zero_()
        dx = layer.backward(before)
    with record():
        layer(X)
        assert torch.equal(layer.backward(before), dx)


def test_the_one_tensor_of_several_is_told():
    with pytest.raises(TraceError, match=r"LayerNorm.*: tensor 1 of the 3 that it keeps .*shape \(2, 3\)"):
        changed_between(LayerNorm(3), X.clone(), lambda x, y: x.add_(1))


def test_nested_structures_are_looked_into():
    class Nested(Module):
        def forward(self, x):
            self.save({"a": [x]}, 3, None)
            return x * 2

        def backward(self, dy):
            kept, _, _ = self.saved()
            return dy * kept["a"][0]

    with pytest.raises(TraceError, match=r"backward of Nested\(\): the tensor"):
        changed_between(Nested(), X.clone(), lambda x, y: x.add_(1))


@pytest.mark.parametrize("optimizer", [SGD, Adam, torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("width", [3, 300])  # packed with others, and in chunks
def test_an_optimizer_that_steps_too_early(optimizer, width):
    layer = Linear(width, width)
    moves = optimizer(layer.parameters(), lr=0.1)
    for p in layer.parameters():
        p.grad = torch.ones_like(p)
    with pytest.raises(TraceError, match=rf"its parameter weight, of shape \({width}, {width}\), was changed in place"):
        changed_between(layer, torch.ones(2, width), lambda x, y: moves.step())


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.load_state_dict(Linear(3, 4).state_dict()),
        lambda layer: layer.bias.detach().mul_(2),
        lambda layer: setattr(layer, "weight", parameter(torch.zeros(4, 3))),
    ],
    ids=["load_state_dict", "bias in place", "another weight"],
)
def test_a_parameter_that_is_not_what_forward_used(change):
    layer = Linear(3, 4)
    with pytest.raises(TraceError, match=r"(its parameter \w+|a parameter) of shape|its parameter \w+, of shape"):
        changed_between(layer, X, lambda x, y: change(layer))


def test_a_frozen_weight_counts_for_the_input_gradient_needs_it():
    layer = Linear(3, 4).requires_grad_(False)
    with pytest.raises(TraceError, match="its parameter weight"):
        changed_between(layer, X, lambda x, y: layer.weight.zero_())


def test_the_parameters_below_a_recomputed_block():
    block = Sequential(Linear(3, 4), Tanh(), Linear(4, 2))
    with pytest.raises(TraceError, match=r"backward of Recompute\(\): its parameter layer.2.weight"):
        changed_between(Recompute(block), X, lambda x, y: block[2].weight.detach().zero_())


def test_an_embedding_may_shrink_its_vectors_between_two_uses():
    layer = Embedding(4, 3, max_norm=0.5)
    with record():
        first, second = layer(torch.tensor([0, 1])), layer(torch.tensor([1, 2]))
        layer.backward(torch.ones_like(second))
        layer.backward(torch.ones_like(first))
    assert layer.weight.grad.sum(1).tolist() == [3, 6, 3, 0]


def test_between_two_passes_of_one_trace_everything_may_change():
    """As one network of a GAN is trained while the other's calls wait."""
    layer = Linear(3, 4)
    with record():
        for _ in range(2):
            layer.backward(layer(X))
            layer.weight.sub_(0.1)
            X.add_(0)


def test_a_layer_without_base_class_is_watched_too():
    class Plain:
        def __init__(self):
            self.factor = parameter(torch.ones(()))

        def parameters(self):
            return [self.factor]

        def forward(self, x):
            save(self, x)
            return x * self.factor

        def backward(self, dy):
            (x,) = take_saved(self)
            accumulate(self.factor, (dy * x).sum())
            return dy * self.factor

        __call__ = forward

    layer = Plain()
    with pytest.raises(TraceError, match=r"backward of Plain\(\): its parameter \(unnamed\), of shape \(\)"):
        changed_between(layer, X, lambda x, y: layer.factor.detach().add_(1))
    with pytest.raises(TraceError, match=r"backward of Plain\(\): the tensor"):
        changed_between(layer, X.clone(), lambda x, y: x.zero_())


def test_tensors_of_inference_mode_have_no_versions_but_what_stands_beside_them_has():
    with torch.inference_mode():
        x = torch.ones(2, 3)
    layer = Linear(3, 4)
    with record():
        layer.backward(layer(x))
    with pytest.raises(TraceError, match="its parameter weight"):
        changed_between(layer, x, lambda x, y: layer.weight.detach().mul_(2))


def test_a_parameter_below_that_backward_reads_itself_is_watched_if_save_is_told():
    class Tied(Module):
        def __init__(self):
            self.table, self.unused = Embedding(5, 3), Linear(3, 1)

        def forward(self, index):
            x = self.table(index)
            self.save(x, reads=[self.table.weight])
            return linear(x, self.table.weight, None)

        def backward(self, dy):
            (x,) = self.saved()
            dx, dweight, _ = linear_backward(dy, x, self.table.weight)
            accumulate(self.table.weight, dweight)
            self.table.backward(dx)

    model, index = Tied(), torch.tensor([1, 2])
    changed_between(model, index, lambda x, y: model.unused.weight.detach().mul_(2))  # nobody reads it
    with pytest.raises(TraceError, match=r"backward of Tied\(\): its parameter table.weight, of shape \(5, 3\)"):
        changed_between(model, index, lambda x, y: model.table.weight.detach().mul_(2))


def test_what_a_base_class_does_not_read_a_subclass_may():
    class Scaled(Embedding):
        def __init__(self):
            super().__init__(4, 3)
            self.gain = parameter(torch.ones(3))

        def forward(self, index):
            return super().forward(index) * self.gain

        def backward(self, dy):
            super().backward(dy * self.gain)

    layer = Scaled()
    with pytest.raises(TraceError, match="its parameter gain"):
        changed_between(layer, torch.tensor([0]), lambda x, y: layer.gain.detach().mul_(3))


def test_a_copied_layer_is_watched_as_the_first_one_is():
    layer = copy.deepcopy(Linear(3, 4))
    with pytest.raises(TraceError, match="its parameter weight"):
        changed_between(layer, X, lambda x, y: layer.weight.detach().zero_())


def test_the_compiled_step_leaves_it_out():
    layer, loss = Linear(3, 1), ds_core.MSELoss()

    @torch.compile(fullgraph=True, backend="eager")
    def step(x, target):
        with record():
            value = loss(layer(x), target)
            layer.backward(loss.backward())
        return value

    step(X, torch.zeros(2, 1))
    assert layer.weight.grad is not None
