"""as_torch: the layers inside a wrapped layer are live parts; what could have no effect on them is refused."""

import copy
import pickle

import pytest
import torch
from bridged_layers import Noise, assert_all_close, network
from ds_core import Dropout, Linear, Module, Parallel, Residual, Sequential, no_record
from ds_core.interop import as_torch, from_torch


def nested():
    torch.manual_seed(0)
    return Sequential(Linear(3, 3), Residual(Sequential(Dropout(0.5), Linear(3, 3))), Parallel(Linear(3, 2), Noise()))


def test_the_parts_are_those_of_the_layer():
    layer = nested()
    module = as_torch(layer)
    own = dict(layer.named_modules())
    parts = {name: part for name, part in module.named_modules() if hasattr(part, "wrapped_layer")}
    assert list(parts) == list(own)
    assert all(part.wrapped_layer is own[name] for name, part in parts.items())
    assert set(dict(module.named_modules())) - set(parts) == {"2.layers"}  # a list, as torch.nn.ModuleList
    assert list(module.state_dict()) == list(layer.state_dict())
    assert repr(module.get_submodule("1.layer.1")) == f"as_torch({layer[1].layer[1]!r})"


def test_a_layer_used_twice_is_one_part():
    layer = Linear(2, 2)
    module = as_torch(Sequential(layer, layer))
    assert module.get_submodule("0") is module.get_submodule("1")
    module(torch.ones(1, 2)).sum().backward()
    assert list(module.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    torch.nn.utils.parametrizations.weight_norm(module.get_submodule("1"))
    kept = layer.weight
    module(torch.ones(1, 2)).sum().backward()
    assert layer.weight is kept
    assert module.get_submodule("0").parametrizations.weight.original0.grad is not None


def test_a_part_can_be_called():
    layer = network()
    module = as_torch(layer)
    x = torch.randn(3, 4)
    module.get_submodule("0")(x).square().sum().backward()
    found = [p.grad for p in module.parameters()]
    oracle = network()[0]
    oracle(x).square().sum().backward()
    assert_all_close(found[:2], [p.grad for p in oracle.parameters()])
    assert found[2:] == [None] * 4


def test_modes_of_parts_act_on_the_layers():
    layer = nested()
    module = as_torch(layer)
    module.get_submodule("1").eval()
    assert [part.training for part in layer.modules()] == [True, True, False, False, False, False, True, True, True]
    assert [p.training for p in module.modules() if hasattr(p, "wrapped_layer")] == [
        p.training for p in layer.modules()
    ]
    x = torch.randn(4, 3)
    assert torch.equal(module.get_submodule("1")(x), layer[1](x))
    module.get_submodule("1.layer.0").training = True
    assert layer[1].layer[0].training
    module.train()
    assert all(part.training for part in layer.modules())


def test_a_layer_that_keeps_its_own_mode():
    class Steady(Sequential):
        def train(self, mode=True):
            return super().train(False)

    layer = Steady(Dropout(0.5))
    module = as_torch(layer).train()
    assert not layer[0].training
    assert [part.training for part in module.modules()] == [False, False]


def test_apply_and_requires_grad():
    layer = nested()
    module = as_torch(layer)

    def init(part):
        if isinstance(getattr(part, "wrapped_layer", None), Linear):
            torch.nn.init.constant_(part.weight, 2.0)
            torch.nn.init.zeros_(part.bias)

    module.apply(init)
    assert all((tensor == (2 if "weight" in name else 0)).all() for name, tensor in layer.named_parameters())
    module.get_submodule("1").requires_grad_(False)
    assert [tensor.requires_grad for tensor in layer.parameters()] == [True, True, False, False, True, True]
    module.get_submodule("0").double()
    assert layer[0].weight.dtype == torch.float64
    assert layer[0].weight is module.get_parameter("0.weight")


HOOKS = [
    "register_forward_pre_hook",
    "register_forward_hook",
    "register_full_backward_pre_hook",
    "register_full_backward_hook",
    "register_backward_hook",
]


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_on_parts_are_refused(name):
    module = as_torch(nested())
    for part in (module.get_submodule("0"), module.get_submodule("2.layers.0"), module.get_submodule("2.layers")):
        with pytest.raises(TypeError, match=r"a part of a wrapped layer, which calls it directly.*would never run"):
            getattr(part, name)(lambda *_: None)
    if name != "register_backward_hook":
        fired = []
        getattr(module, name)(lambda *_: fired.append(1) or None)
        module(torch.randn(2, 3, requires_grad=True))[0].sum().backward()
        assert fired == [1]


def put_by_add_module(owner, name, value):
    owner.add_module(name, value)


def put_by_register_module(owner, name, value):
    owner.register_module(name, value)


PUTS = pytest.mark.parametrize(
    "put", [setattr, put_by_add_module, put_by_register_module], ids=lambda put: put.__name__
)


@PUTS
@pytest.mark.parametrize("path", ["0", "1.layer", "2.layers.0", "new", "2.new", "2.layers.2"])
def test_modules_in_the_place_of_parts_are_refused(put, path):
    module = as_torch(nested())
    *owner, name = path.rsplit(".", 1)
    owner = module.get_submodule(owner[0] if owner else "")
    with pytest.raises(TypeError, match=f"as_torch: {name} of .* is fixed: .*wrap it anew"):
        put(owner, name, torch.nn.Linear(3, 3))
    assert list(module.state_dict()) == list(module.wrapped_layer.state_dict())


def test_parts_cannot_be_taken_away():
    module = as_torch(nested())
    for take in (lambda: delattr(module, "0"), lambda: setattr(module, "0", None)):
        with pytest.raises(TypeError, match=r"0 of Sequential\(\) is fixed"):
            take()
    module._modules["0"] = torch.nn.Linear(3, 3)  # what some tools do
    with pytest.raises(TypeError, match=r"0 of Sequential\(\) is fixed"):
        module(torch.ones(1, 3))


def test_parametrizations_of_parts():
    module = as_torch(Sequential(Linear(3, 3), from_torch(torch.nn.Linear(3, 2))))
    twin = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    twin.load_state_dict(module.state_dict())
    for each in (module, twin):
        for name in ("0", "1"):
            torch.nn.utils.parametrizations.weight_norm(each.get_submodule(name))
    x = torch.randn(4, 3)
    for each in (module, copy.deepcopy(module), twin):
        each.zero_grad()
        each(x).square().sum().backward()
    assert list(module.state_dict()) == list(twin.state_dict())
    assert_all_close([p.grad for p in module.parameters()], [p.grad for p in twin.parameters()])
    torch.nn.utils.parametrizations.spectral_norm(module.get_submodule("0"), name="bias")
    module.eval()
    assert not module.get_submodule("0").parametrizations.bias[0].training
    torch.nn.utils.parametrize.remove_parametrizations(module.get_submodule("0"), "weight")
    module(x).sum().backward()
    assert module.get_submodule("0").weight.grad is not None


def test_old_style_weight_norm_on_the_whole_module():
    module = as_torch(Linear(2, 2))
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(module)
    module(torch.ones(1, 2)).sum().backward()
    assert module.weight_g.grad is not None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_of_parts(duplicate):
    module = as_torch(nested())
    twin = duplicate(module)
    assert dict(twin.named_modules()).keys() == dict(module.named_modules()).keys()
    twin.get_submodule("1").eval()
    assert not twin.wrapped_layer[1].layer[0].training
    assert module.wrapped_layer[1].layer[0].training
    assert twin.get_submodule("1.layer.1").wrapped_layer is twin.wrapped_layer[1].layer[1]
    part = duplicate(module.get_submodule("0"))
    part(torch.ones(1, 3)).sum().backward()
    assert part.weight.grad is not None
    assert module.get_parameter("0.weight").grad is None


def replicated(module):
    """What torch.nn.DataParallel makes of a module for each device."""
    parts = list(module.modules())
    replicas = [part._replicate_for_data_parallel() for part in parts]
    for part, replica in zip(parts, replicas, strict=True):
        for name, child in part._modules.items():
            setattr(replica, name, replicas[parts.index(child)])
        for name, parameter in part._parameters.items():
            setattr(replica, name, parameter.clone())
    return replicas[0]


def test_replicas():
    module = as_torch(nested().eval())
    x = torch.randn(4, 3)
    first, second = (replicated(module)(half)[0] for half in x.chunk(2))
    torch.cat([first, second]).square().sum().backward()
    found = [p.grad for p in module.parameters()]
    module.zero_grad()
    module(x)[0].square().sum().backward()
    assert_all_close(found, [p.grad for p in module.parameters()])
    shallow = copy.copy(module)
    assert_all_close(shallow(x), module(x))


def test_buffers_that_the_layer_replaces():
    class Ramp(Module):
        """x times 0, 1, 2 ..., which it keeps for the length it has seen last."""

        def __init__(self):
            self._ramp = torch.zeros(1)
            self.calls = torch.tensor(0)

        def forward(self, x):
            with no_record():
                self.calls = self.calls + 1
                if len(self._ramp) != len(x):
                    self._ramp = torch.arange(float(len(x)))
            self.save()
            return x * self._ramp

        def backward(self, dy):
            self.saved()
            return dy * self._ramp

    layer = Ramp()
    module = as_torch(layer)
    inputs = [torch.ones(n, requires_grad=True) for n in (3, 4, 3)]
    for y in [module(x) for x in inputs]:
        y.sum().backward()
    assert [x.grad.tolist() for x in inputs] == [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2]]
    layer(torch.ones(2))
    assert module(torch.ones(2)).tolist() == [0, 1]
    assert module.calls.item() == layer.calls.item() == 5
    assert module.state_dict()["calls"].item() == 5
