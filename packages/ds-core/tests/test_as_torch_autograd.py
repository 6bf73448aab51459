"""as_torch: hooks, checkpointing, autocast, data parallelism and compilation work, and changes in place are caught."""

import threading

import pytest
import torch
from bridged_layers import Noise, SavesItsOutput, assert_all_close, autograd_of, network
from ds_core import Linear, Module, Recompute, Sequential, accumulate, no_record, record
from ds_core.engine.foreign import ForeignModuleError
from ds_core.interop import as_torch
from torch.utils.checkpoint import checkpoint


def test_retain_graph_and_torch_autograd_grad():
    module = as_torch(network())
    x = torch.randn(3, 4, requires_grad=True)
    y = module(x)
    first = torch.autograd.grad(y.sum(), [x, *module.parameters()], retain_graph=True)
    second = torch.autograd.grad(y.sum(), [x, *module.parameters()], retain_graph=True)
    third = torch.autograd.grad(2 * y.sum(), [x])
    assert_all_close(first, second)
    torch.testing.assert_close(third[0], 2 * first[0])
    assert all(p.grad is None for p in module.parameters())
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


def test_backward_in_another_thread():
    module = as_torch(Sequential(Linear(3, 3), Recompute(Sequential(Noise(), Linear(3, 2)))))
    x, results = torch.ones(4, 3, requires_grad=True), []
    y = module(x)
    thread = threading.Thread(target=lambda: results.append(torch.autograd.grad(y.sum(), [x], retain_graph=True)))
    thread.start()  # as autograd itself does for another device
    thread.join()
    assert_all_close(results[0], torch.autograd.grad(y.sum(), [x]))


def test_hooks_fire_and_see_the_gradient():
    module = as_torch(Linear(2, 2))
    seen = []
    module.weight.register_hook(lambda gradient: seen.append(gradient.clone()) or gradient * 10)
    module.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    module.register_full_backward_hook(lambda m, dx, dy: seen.append(dx[0].clone()))
    x = torch.ones(1, 2, requires_grad=True)
    module(x).sum().backward()
    assert len(seen) == 3
    assert module.weight.grad.tolist() == [[10, 10], [10, 10]]


def test_without_grad_nothing_is_recorded():
    module = as_torch(SavesItsOutput())
    x = torch.ones(2, requires_grad=True)
    for mode in (torch.no_grad, torch.inference_mode, no_record):
        with mode():
            assert not module(x).requires_grad
    with record() as trace:
        for call in (module, module.forward):
            with pytest.raises(
                ForeignModuleError, match=r"inside record\(\).*as_torch\(SavesItsOutput\(\)\).*wrapped_layer"
            ):
                call(x)
        assert len(trace) == 0
        with no_record():
            assert not module(x).requires_grad
            with torch.enable_grad():
                assert module(x).requires_grad
        assert len(trace) == 0


def test_a_second_derivative_raises():
    module = as_torch(SavesItsOutput())
    x = torch.ones(2, requires_grad=True)
    (dx,) = torch.autograd.grad(module(x).sum(), [x], create_graph=True)
    torch.testing.assert_close(dx.detach(), x.exp().detach())
    with pytest.raises(RuntimeError, match="no second derivative"):
        (module(x) + dx.square()).sum().backward()  # a gradient penalty


@pytest.mark.parametrize("by", ["input", "weight", "output gradient"])
def test_a_second_derivative_by_one_tensor_raises_too(by):
    layer = Linear(2, 2, bias=False)
    module = as_torch(layer)
    x = torch.ones(2, requires_grad=True)
    dy = torch.ones(2, requires_grad=True)
    y = module(x.square()).exp()  # mixed: without the refusal there would be a derivative, by part of the graph
    (dx,) = torch.autograd.grad(y, [x], dy, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(dx.sum(), [{"input": x, "weight": layer.weight, "output gradient": dy}[by]])


def test_gradients_of_gradients_that_know_nothing_of_the_layer_are_let_through():
    x, z = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    y = as_torch(SavesItsOutput())(x).sum() + z.pow(3).sum()
    (dz,) = torch.autograd.grad(y, [z], create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(dz.sum(), [z])[0], torch.full((2,), 6.0))


def test_outputs_may_be_changed_in_place_where_nobody_else_has_them():
    layer = Linear(2, 2)
    x = torch.randn(3, 2, requires_grad=True)
    as_torch(layer)(x).mul_(2).sum().backward()
    torch.testing.assert_close(x.grad, 2 * layer.weight.detach().sum(0).expand(3, 2))

    class Halves(Module):
        def forward(self, x):
            self.save()
            y = x * 2
            return y[..., :1], y[..., 1:], x.view(-1)

        def backward(self, dfirst, dsecond=None, dflat=None):
            self.saved()
            return torch.cat([dfirst, dsecond], -1) * 2

    for output in as_torch(Halves())(x):  # these share memory with each other, or with the input
        with pytest.raises(RuntimeError, match="is a view"):
            output.mul_(2)


@pytest.mark.parametrize("changed", ["input", "output", "parameter"])
def test_changes_in_place_are_caught(changed):
    module = as_torch(Sequential(Linear(2, 2), SavesItsOutput()))
    x = torch.ones(1, 2)
    y = module(x)
    with torch.no_grad():
        {"input": x, "output": y, "parameter": module.get_parameter("0.weight")}[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_torch_checkpointing(reentrant):
    torch.manual_seed(0)
    layer = Sequential(Linear(3, 3), Noise(), Recompute(Sequential(Linear(3, 3), Noise())))
    module = as_torch(layer)
    results = []
    for run in (module, lambda x: checkpoint(module, x, use_reentrant=reentrant)):
        torch.manual_seed(1)
        x = torch.ones(4, 3, requires_grad=True)
        y = run(x)
        y.square().sum().backward()
        results.append([y, x.grad, *[p.grad for p in module.parameters()]])
        module.zero_grad()
    assert_all_close(*results)


def test_saved_tensors_go_through_autograds_hooks():
    packed = []
    module = as_torch(network())
    x = torch.randn(3, 4)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.shape) or t.clone(), lambda t: t):
        y = module(x)
    y.sum().backward()
    assert (3, 4) in packed
    assert_all_close([p.grad for p in module.parameters()], autograd_of(network(), x, dy=torch.ones_like(y))[1:])


def test_autocast():
    torch.manual_seed(0)
    ours = Sequential(Linear(4, 4), Linear(4, 4))
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    theirs.load_state_dict(ours.state_dict())
    module, x = as_torch(ours), torch.randn(3, 4)
    gradients = []
    for m in (module, theirs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = m(x)
        assert y.dtype == torch.bfloat16
        y.sum().backward()  # outside of autocast, and yet in its dtype
        gradients.append([p.grad for p in m.parameters()])
    assert all(gradient.dtype == torch.float32 for gradient in gradients[0])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=0.02, atol=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(x).dtype == torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            assert module(x).dtype == torch.float32


def test_autocast_casts_made_here_do_not_rob_others_of_their_gradient():
    weight = torch.nn.Parameter(torch.ones(2, 2))

    class UsesTheWeight(Module):
        def __init__(self):
            self.weight = weight

        def forward(self, x):
            self.save(x)
            return torch.mm(x, self.weight)

        def backward(self, dy, *, input_gradient=True):
            (x,) = self.saved()
            accumulate(self.weight, torch.mm(x.t(), dy))

    module = as_torch(UsesTheWeight())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module(torch.ones(1, 2))
        torch.mm(torch.ones(1, 2), weight).sum().backward()
    assert weight.grad is not None


def test_data_parallel():
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        module = as_torch(network())
        x, dy = torch.randn(5, 4), torch.randn(5, 2)
        torch.nn.parallel.DistributedDataParallel(module)(x).backward(dy)
    finally:
        torch.distributed.destroy_process_group()
    assert_all_close([p.grad for p in module.parameters()], autograd_of(network(), x, dy=dy)[1:])
