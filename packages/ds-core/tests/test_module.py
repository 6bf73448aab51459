"""A module and its tensors: which they are, saved and loaded, converted, copied."""

import copy
import pickle
import re

import pytest
import torch
from ds_core import Linear, Module, Residual, Sequential, StateDictError, no_record, parameter, record


class Counted(Module):
    """A parameter, a frozen one, a buffer, a buffer that is not saved, and something that is neither."""

    def __init__(self, size=3):
        self.size = size
        self.weight = parameter(torch.ones(size))
        self.frozen = parameter(torch.ones(size))
        self.frozen.requires_grad_(False)
        self.steps = torch.tensor(0)
        self._mask = torch.ones(size)
        self.absent = None

    def forward(self, x):
        with no_record():
            self.steps += 1
        self.save(x)
        return x * self.weight + self.frozen

    def extra_repr(self):
        return f"size={self.size}"


class Tied(Module):
    def __init__(self):
        self.embed = Linear(3, 3, bias=False)
        self.head = Linear(3, 3)
        self.head.weight = self.embed.weight


def names(pairs):
    return [name for name, _ in pairs]


def test_attributes_are_what_a_module_owns():
    module = Counted()
    assert names(module.named_parameters()) == ["weight", "frozen"]
    assert names(module.named_buffers()) == ["steps", "_mask"]
    assert list(module.state_dict()) == ["weight", "frozen", "steps"]
    assert list(module.children()) == []


def test_the_kind_of_a_name_is_fixed_at_first_assignment():
    module = Counted()
    module.requires_grad_(False)
    assert names(module.named_parameters()) == ["weight", "frozen"]
    module.weight = torch.zeros(3)  # a frozen value in the place of a parameter
    assert names(module.named_parameters()) == ["weight", "frozen"]
    module.steps = torch.tensor(5)
    assert names(module.named_buffers()) == ["steps", "_mask"]
    module.requires_grad_(True)
    assert module.weight.requires_grad
    assert not module.steps.requires_grad


def test_a_name_that_no_longer_holds_a_tensor_is_no_longer_listed():
    module = Counted()
    module.frozen = None
    del module.steps
    assert names(module.named_parameters()) == ["weight"]
    assert list(module.state_dict()) == ["weight"]


def test_a_computed_tensor_that_requires_a_gradient_is_refused():
    module = Counted()
    with pytest.raises(TypeError, match=r"Counted\.scale: .*parameter\(data\)"):
        module.scale = torch.randn(3, requires_grad=True) * 0.1
    assert not hasattr(module, "scale")


def test_state_goes_both_ways_with_torch():
    torch.manual_seed(0)
    ours = Sequential(Linear(3, 4), Sequential(Linear(4, 4, bias=False)), Linear(4, 2))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False)), torch.nn.Linear(4, 2)
    )
    x = torch.randn(5, 3)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        for tensor in theirs.parameters():
            tensor.add_(1)
    assert not torch.equal(ours[0].weight, theirs[0].weight)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    torch.testing.assert_close(ours(x), theirs(x))


def test_state_dict_shares_memory_and_has_no_graph():
    module = Counted()
    state = module.state_dict()
    assert not state["weight"].requires_grad
    state["weight"].fill_(7)
    assert module.weight.tolist() == [7, 7, 7]


def test_loading_casts_and_keeps_the_tensors():
    module = Counted()
    weight = module.weight
    module.load_state_dict({**module.state_dict(), "weight": torch.full((3,), 2.0, dtype=torch.float64)})
    assert module.weight is weight
    assert weight.tolist() == [2, 2, 2]
    assert weight.dtype == torch.float32


def test_strict_loading_names_every_mismatch_and_copies_nothing():
    module = Counted()
    state = {"weight": torch.zeros(3), "frozen": torch.zeros(2), "extra": torch.zeros(1), "more": torch.zeros(1)}
    with pytest.raises(StateDictError) as caught:
        module.load_state_dict(state)
    message = str(caught.value)
    assert "Counted" in message
    assert "missing: steps" in message
    assert "unexpected: extra, more" in message
    assert "frozen: given shape (2,), expected (3,)" in message
    assert module.weight.tolist() == [1, 1, 1]
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value, ValueError)


def test_loading_without_strict_reports_names_but_no_wrong_shapes():
    module = Counted()
    report = module.load_state_dict({"weight": torch.zeros(3), "extra": torch.zeros(1)}, strict=False)
    assert report.missing_keys == ["frozen", "steps"]
    assert report.unexpected_keys == ["extra"]
    assert module.weight.tolist() == [0, 0, 0]
    with pytest.raises(StateDictError, match="expected"):
        module.load_state_dict({"weight": torch.zeros(4)}, strict=False)


@pytest.mark.parametrize("cast", [lambda m: m.double(), lambda m: m.bfloat16(), lambda m: m.to("cpu", torch.float64)])
def test_conversion_keeps_each_tensor_and_its_gradient(cast):
    module = Sequential(Counted(), Linear(3, 2))
    module[0].weight.grad = torch.full((3,), 0.5)
    before = [*module.parameters(), *module.buffers()]
    assert cast(module) is module
    after = [*module.parameters(), *module.buffers()]
    assert all(first is second for first, second in zip(before, after, strict=True))
    dtype = module[1].weight.dtype
    assert dtype != torch.float32
    assert module[0].weight.dtype == module[0].weight.grad.dtype == module[0]._mask.dtype == dtype
    assert module[0].weight.grad.tolist() == [0.5, 0.5, 0.5]
    assert module[0].steps.dtype == torch.int64
    assert module[0].weight.requires_grad
    assert not module[0].frozen.requires_grad
    module.float()
    assert module[1].weight.dtype == torch.float32


def test_to_takes_the_device_and_dtype_of_a_tensor_and_refuses_integers():
    module = Linear(2, 2).to(torch.zeros(1, dtype=torch.float64))
    assert module.weight.dtype == torch.float64
    with pytest.raises(TypeError, match=r"Linear\.to: expected a floating dtype"):
        module.to(torch.int64)


def test_both_engines_work_after_a_conversion():
    layer = Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    layer.double()
    with record():
        layer.backward(layer(torch.ones(1, 2, dtype=torch.float64)))
    layer(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    assert layer.weight.grad.dtype == torch.float64


def test_the_meta_device_and_back():
    module = Tied()
    weight, bias = module.embed.weight, module.head.bias
    bias.grad = torch.ones(3)
    values = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.to("meta")
    assert module.embed.weight is module.head.weight is weight
    assert weight.is_meta
    assert bias.grad.is_meta
    module.to_empty("cpu")
    assert module.embed.weight is weight
    assert not weight.is_meta
    assert weight.requires_grad
    module.load_state_dict(values)
    torch.testing.assert_close(weight.detach(), values["embed.weight"])


def test_built_on_meta_without_memory():
    layer = Linear(10**6, 10**6, device="meta")
    assert layer(torch.empty(2, 10**6, device="meta")).shape == (2, 10**6)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_whole_and_apart(duplicate):
    module = Sequential(Tied(), Counted()).eval()
    twin = duplicate(module)
    assert names(twin.named_parameters()) == names(module.named_parameters())
    assert twin[0].embed.weight is twin[0].head.weight
    assert twin[1].training is False
    assert [t.requires_grad for t in twin.parameters()] == [t.requires_grad for t in module.parameters()]
    for first, second in zip(module.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(first, second)
        assert first.data_ptr() != second.data_ptr()
    with torch.no_grad():
        twin[1].weight.zero_()
    assert module[1].weight.tolist() == [1, 1, 1]


def test_zero_grad():
    layer = Linear(2, 2)
    layer.weight.grad = torch.ones(2, 2)
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0, 0], [0, 0]]
    layer.zero_grad()
    assert layer.weight.grad is None


def test_repr_is_a_tree():
    assert repr(Sequential(Counted(), Residual(Linear(3, 3, bias=False)))) == (
        "Sequential(\n"
        "  (0): Counted(size=3)\n"
        "  (1): Residual(\n"
        "    (layer): Linear(in_features=3, out_features=3, bias=False)\n"
        "  )\n"
        ")"
    )


def test_buffers_are_updated_in_both_engines():
    module = Counted()
    module(torch.ones(3)).sum().backward()
    with record():
        module(torch.ones(3))
        module.saved()
    assert module.steps.item() == 2


def test_what_a_subclass_forgot_is_said():
    with pytest.raises(NotImplementedError, match="Counted has no backward"):
        Counted().backward(torch.ones(3))
    with pytest.raises(NotImplementedError, match="Tied has no forward"):
        Tied()(torch.ones(3))


def test_a_buffers_name_takes_no_parameter():
    module = Module()
    module.mean = torch.zeros(2)
    with pytest.raises(TypeError, match=r"Module\.mean is a buffer"):
        module.mean = parameter(torch.zeros(2))


def test_values_do_not_vanish_into_a_meta_module():
    with pytest.raises(ValueError, match=r"weight is on the meta device: call to_empty"):
        Linear(2, 2, device="meta").load_state_dict(Linear(2, 2).state_dict())


@pytest.mark.parametrize(
    ("held", "path"),
    [
        (lambda p: [p], "weights.0"),
        (lambda p: (torch.ones(1), p), "weights.1"),
        (lambda p: {"a": p}, "weights.a"),
        (lambda p: [Linear(1, 1), {"b": [p]}], "weights.1.b.0"),
        (lambda p: [torch.nn.Parameter(torch.ones(1))], "weights.0"),
    ],
)
def test_a_parameter_in_a_list_is_refused_with_the_way_out(held, path):
    with pytest.raises(TypeError) as caught:
        Module().weights = held(parameter(torch.ones(2)))
    assert re.fullmatch(
        rf"Module\.{re.escape(path)}: a parameter in a (list|tuple|dict) would be neither trained nor saved: give it "
        r'an attribute of its own, setattr\(self, f"weights_\{i\}", \.\.\.\), or put it into a layer',
        str(caught.value),
    )


@pytest.mark.parametrize("look", [lambda m: list(m.parameters()), lambda m: m.state_dict(), lambda m: m.eval(), repr])
def test_a_parameter_appended_to_a_list_is_refused_when_parameters_are_looked_for(look):
    model = Module()
    model.weights = []
    model.weights.append(parameter(torch.ones(2)))
    with pytest.raises(TypeError, match=r"Module\.weights\.0: a parameter in a list"):
        look(model)


def test_other_tensors_in_a_list_are_nobodys_business():
    model = Module()
    model.tables = [torch.ones(2), torch.ones(2, requires_grad=True) * 2]
    assert list(model.parameters()) == []
    assert list(model.buffers()) == []
