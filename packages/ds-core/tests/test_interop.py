import copy
import pickle
import threading
from dataclasses import dataclass

import pytest
import torch
from ds_core import Linear, Module, Recompute, Residual, Sequential, accumulate, no_record, parameter, record
from ds_core.interop import as_torch, from_autograd, from_torch
from ds_core.recompute import drawn
from torch.utils.checkpoint import checkpoint


class Product(Module):
    """z = x y w, and the sum of it; several inputs and outputs, an integer among each."""

    def __init__(self, size=3):
        self.weight = parameter(torch.linspace(1, 2, size))

    def forward(self, x, times, y):
        self.save(x, y, times)
        z = x * y * self.weight * times
        return z, times, z.sum()

    def backward(self, dz=None, dtimes=None, dsum=None):
        x, y, times = self.saved()
        if dsum is not None:
            dz = dsum.expand(x.shape) if dz is None else dz + dsum
        if dz is None:
            return None
        accumulate(self.weight, (dz * x * y * times).reshape(-1, x.shape[-1]).sum(0))
        return dz * y * self.weight * times, dz * x * self.weight * times


class Cell(Module):
    """A recurrent cell's signature: (x, (h, c)) -> (y, (h, c)); without states they are zeros."""

    def __init__(self):
        self.scale = parameter(torch.tensor([0.5, 2.0]))

    def forward(self, x, states=None):
        h, c = (torch.zeros_like(x), torch.zeros_like(x)) if states is None else states
        self.save(x, h, c)
        return x * h * self.scale, (h + x, c * x)

    def backward(self, dy, dstates=None):
        x, h, c = self.saved()
        dh, dc = (None, None) if dstates is None else dstates
        dy, dh, dc = (torch.zeros_like(x) if d is None else d for d in (dy, dh, dc))
        accumulate(self.scale, (dy * x * h).reshape(-1, 2).sum(0))
        return dy * h * self.scale + dh + dc * c, (dy * x * self.scale + dh, dc * x)


class Noise(Module):
    """A random mask, replayed; counts its forwards in a buffer that is replaced by in-place addition."""

    def __init__(self):
        self.count = torch.tensor(0.0)
        self._scratch = torch.zeros(2)

    def forward(self, x):
        if self.training:
            self.count += 1
        mask = drawn(lambda: torch.empty(x.shape).bernoulli_(0.5)) if self.training else torch.ones(x.shape)
        self.save(mask)
        return x * mask

    def backward(self, dy):
        (mask,) = self.saved()
        return None if dy is None else dy * mask


class SavesItsOutput(Module):
    def forward(self, x):
        y = torch.exp(x)
        self.save(y)
        return y

    def backward(self, dy):
        (y,) = self.saved()
        return None if dy is None else dy * y


class Tied(Module):
    def __init__(self):
        self.embed = Linear(3, 3, bias=False)
        self.head = Linear(3, 3)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.embed(x))

    def backward(self, dy, *, input_gradient=True):
        return self.embed.backward(self.head.backward(dy), input_gradient=input_gradient)


class HeldInATuple:
    """A foreign layer whose parameter cannot be exchanged."""

    def __init__(self):
        self.tensors = (parameter(torch.ones(2)),)

    def forward(self, x):
        return x

    def backward(self, dy):
        return dy

    def parameters(self):
        return list(self.tensors)


class HeldInAList(HeldInATuple):
    def __init__(self):
        self.tensors = [parameter(torch.ones(2))]
        self.kept = []

    def forward(self, x):
        self.kept.append(x)
        return x * self.tensors[0]

    def backward(self, dy, *, input_gradient=True):
        x = self.kept.pop()
        accumulate(self.tensors[0], (dy * x).sum(0))
        return dy * self.tensors[0]


def network(seed=0):
    torch.manual_seed(seed)
    return Sequential(Linear(4, 6), Residual(Sequential(Linear(6, 6), SavesItsOutput())), Linear(6, 2))


def autograd_of(layer, *inputs, dy):
    """The oracle: autograd of the layer's own forward; the gradients of inputs, then of parameters."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = layer.forward(*inputs)
    return torch.autograd.grad(y, [*inputs, *layer.parameters()], dy)


def assert_all_close(ours, theirs):
    assert len(ours) == len(theirs)
    for first, second in zip(ours, theirs, strict=True):
        torch.testing.assert_close(first, second)


class TestAsTorch:
    def test_outputs_and_gradients(self):
        module = as_torch(network())
        x, dy = torch.randn(5, 4, requires_grad=True), torch.randn(5, 2)
        y = module(x)
        y.backward(dy)
        assert isinstance(module, torch.nn.Module)
        oracle = network()
        torch.testing.assert_close(y, oracle(x))
        assert_all_close([x.grad, *[p.grad for p in module.parameters()]], autograd_of(oracle, x, dy=dy))

    def test_it_is_our_backward_that_runs(self):
        class Wrong(Module):
            def forward(self, x):
                self.save()
                return x * 2

            def backward(self, dy):
                self.saved()
                return dy * 100

        x = torch.ones(2, requires_grad=True)
        as_torch(Wrong())(x).sum().backward()
        assert x.grad.tolist() == [100, 100]

    def test_inside_a_torch_model(self):
        torch.manual_seed(0)
        ours = Linear(6, 6)
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 6), as_torch(ours), torch.nn.ReLU(inplace=True), torch.nn.Linear(6, 1)
        )
        twin = torch.nn.Linear(6, 6)
        twin.load_state_dict(ours.state_dict())
        reference = torch.nn.Sequential(copy.deepcopy(model[0]), twin, torch.nn.ReLU(), copy.deepcopy(model[3]))
        optimizers = [torch.optim.AdamW(m.parameters(), lr=0.1) for m in (model, reference)]
        for _ in range(3):
            x = torch.randn(5, 4)
            for m, optimizer in zip((model, reference), optimizers, strict=True):
                optimizer.zero_grad()
                m(x).square().sum().backward()
                optimizer.step()
        for first, second in zip(model.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)

    def test_the_layers_leaves_become_the_modules_parameters(self):
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

    def test_shared_parameters_stay_shared(self):
        layer = Tied()
        module = as_torch(layer)
        assert layer.embed.weight is layer.head.weight is module.embed.weight is module.head.weight
        assert [n for n, _ in module.named_parameters()] == ["embed.weight", "head.bias"]
        x, dy = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
        module(x).backward(dy)
        assert_all_close([x.grad, *[p.grad for p in module.parameters()]], autograd_of(layer, x, dy=dy))

    def test_state_dict_keys_and_buffers(self):
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

    def test_conversions_reach_the_layer(self):
        layer = Sequential(Linear(2, 2), Noise())
        module = torch.nn.Sequential(as_torch(layer)).double()
        assert layer[0].weight.dtype == layer[1].count.dtype == torch.float64
        assert layer[1].count is module[0].get_buffer("1.count")
        assert module(torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float64

    def test_train_and_eval_reach_the_layer(self):
        layer = Sequential(Noise()).eval()
        module = as_torch(layer)
        assert not module.training
        outer = torch.nn.Sequential(module).train()
        assert layer[0].training
        outer.eval()
        assert not layer[0].training

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies_are_whole_and_apart(self, duplicate):
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

    def test_retain_graph_and_torch_autograd_grad(self):
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

    def test_several_forwards_before_one_backward(self):
        module = as_torch(network())
        xs = [torch.randn(3, 4, requires_grad=True) for _ in range(3)]
        ys = [module(x) for x in xs]
        (ys[0] * ys[1] + ys[2]).sum().backward()
        oracle = network()
        leaves = [x.detach().clone().requires_grad_() for x in xs]
        ys = [oracle(x) for x in leaves]
        (ys[0] * ys[1] + ys[2]).sum().backward()
        assert_all_close([x.grad for x in xs], [x.grad for x in leaves])
        assert_all_close([p.grad for p in module.parameters()], [p.grad for p in oracle.parameters()])

    def test_one_input_given_twice_and_one_output_returned_twice(self):
        class Twice(Module):
            def forward(self, x, y):
                self.save(x, y)
                z = x * y
                return z, z, x

            def backward(self, dz, dsame=None, dcopy=None):
                x, y = self.saved()
                parts = [d for d in (dz, dsame) if d is not None]
                return sum(parts) * y + (0 if dcopy is None else dcopy), sum(parts) * x

        x = torch.tensor([2.0, 3.0], requires_grad=True)
        first, second, same = as_torch(Twice())(x, x)
        (first + 10 * second + 100 * same).sum().backward()
        assert x.grad.tolist() == [11 * 4 + 100, 11 * 6 + 100]

    def test_nested_inputs_integers_and_none(self):
        module = as_torch(Product())
        x, y = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
        z, times, total = module(x, torch.tensor(2), y)
        assert times.item() == 2
        (z.sum() + 3 * total).backward()
        w = module.weight.detach()
        torch.testing.assert_close(x.grad, 4 * 2 * y.detach() * w)
        torch.testing.assert_close(y.grad, 4 * 2 * x.detach() * w)
        torch.testing.assert_close(module.weight.grad, 4 * 2 * (x * y).detach().sum(0))
        assert module(x, 2, y)[1] == 2
        x.grad = None
        module(x, y=y, times=2)[0].sum().backward()
        torch.testing.assert_close(x.grad, 2 * y.detach() * w)

    def test_recurrent_signature(self):
        layer = Cell()
        module = as_torch(layer)
        x, h, c = (torch.randn(3, 2, requires_grad=True) for _ in range(3))
        y, (h1, c1) = module(x, (h, c))
        (y + 2 * h1 + 3 * c1).sum().backward()
        ours = [x.grad, h.grad, c.grad, module.scale.grad]
        y, (h1, c1) = layer.forward(x, (h, c))
        assert_all_close(ours, torch.autograd.grad((y + 2 * h1 + 3 * c1).sum(), [x, h, c, layer.scale]))
        for states in ((), (None,)):
            x.grad = None
            y, (h1, _) = module(x, *states)
            h1.sum().backward()
            assert x.grad.tolist() == [[1, 1]] * 3

    def test_named_outputs(self):
        @dataclass
        class Found:
            boxes: torch.Tensor
            scores: torch.Tensor
            names: list

        class Head(Module):
            def forward(self, x):
                self.save()
                return Found(x * 2, x * 3, ["a"])

            def backward(self, dfound):
                self.saved()
                assert dfound.scores is None
                assert dfound.names is None
                return dfound.boxes * 2

        x = torch.ones(2, requires_grad=True)
        found = as_torch(Head())(x)
        assert found.names == ["a"]
        found.boxes.sum().backward()
        assert x.grad.tolist() == [2, 2]

    def test_an_input_without_a_gradient_from_backward_is_said(self):
        class HalfBackward(Module):
            def forward(self, x, y):
                self.save()
                return x + y

            def backward(self, dz):
                self.saved()
                return dz

        x, y = torch.ones(2, requires_grad=True), torch.ones(2)
        module = as_torch(HalfBackward())
        module(x, y).sum().backward()
        assert x.grad.tolist() == [1, 1]
        with pytest.raises(TypeError, match=r"input 2 of HalfBackward\(\) requires a gradient"):
            module(x, y.requires_grad_()).sum().backward()

    def test_backward_in_another_thread(self):
        module = as_torch(Sequential(Linear(3, 3), Recompute(Sequential(Noise(), Linear(3, 2)))))
        x, results = torch.ones(4, 3, requires_grad=True), []
        y = module(x)
        thread = threading.Thread(target=lambda: results.append(torch.autograd.grad(y.sum(), [x], retain_graph=True)))
        thread.start()  # as autograd itself does for another device
        thread.join()
        assert_all_close(results[0], torch.autograd.grad(y.sum(), [x]))

    def test_hooks_fire_and_see_the_gradient(self):
        module = as_torch(Linear(2, 2))
        seen = []
        module.weight.register_hook(lambda gradient: seen.append(gradient.clone()) or gradient * 10)
        module.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
        module.register_full_backward_hook(lambda m, dx, dy: seen.append(dx[0].clone()))
        x = torch.ones(1, 2, requires_grad=True)
        module(x).sum().backward()
        assert len(seen) == 3
        assert module.weight.grad.tolist() == [[10, 10], [10, 10]]

    def test_gradients_accumulate_over_backwards(self):
        module = as_torch(Linear(2, 2))
        for _ in range(2):
            module(torch.ones(1, 2)).sum().backward()
        assert module.weight.grad.tolist() == [[2, 2], [2, 2]]

    def test_work_not_needed_is_not_done(self):
        calls = []

        class Watched(Linear):
            def backward(self, dy, *, input_gradient=True):
                calls.append((input_gradient, self.bias.requires_grad))
                return super().backward(dy, input_gradient=input_gradient)

        module = as_torch(Watched(2, 2))
        module(torch.ones(1, 2)).sum().backward()
        module(torch.ones(1, 2, requires_grad=True)).sum().backward()
        assert calls == [(False, True), (True, True)]
        module.bias.requires_grad_(False)
        module(torch.ones(1, 2)).sum().backward()
        assert calls[-1] == (False, False)
        module.requires_grad_(False)
        assert not module(torch.ones(1, 2)).requires_grad
        x = torch.ones(1, 2, requires_grad=True)
        module.weight.grad = None
        module(x).sum().backward()
        assert module.weight.grad is None
        assert x.grad is not None

    def test_without_grad_nothing_is_recorded(self):
        module = as_torch(SavesItsOutput())
        x = torch.ones(2, requires_grad=True)
        for mode in (torch.no_grad, torch.inference_mode, no_record):
            with mode():
                assert not module(x).requires_grad
        with record() as trace:
            module(x)
            assert len(trace) == 0

    def test_a_second_derivative_raises(self):
        module = as_torch(SavesItsOutput())
        x = torch.ones(2, requires_grad=True)
        (dx,) = torch.autograd.grad(module(x).sum(), [x], create_graph=True)
        torch.testing.assert_close(dx.detach(), x.exp().detach())
        with pytest.raises(RuntimeError, match="no second derivative"):
            (module(x) + dx.square()).sum().backward()  # a gradient penalty

    def test_outputs_may_be_changed_in_place_where_nobody_else_has_them(self):
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
    def test_changes_in_place_are_caught(self, changed):
        module = as_torch(Sequential(Linear(2, 2), SavesItsOutput()))
        x = torch.ones(1, 2)
        y = module(x)
        with torch.no_grad():
            {"input": x, "output": y, "parameter": module.get_parameter("0.weight")}[changed].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_torch_checkpointing(self, reentrant):
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

    def test_saved_tensors_go_through_autograds_hooks(self):
        packed = []
        module = as_torch(network())
        x = torch.randn(3, 4)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.shape) or t.clone(), lambda t: t):
            y = module(x)
        y.sum().backward()
        assert (3, 4) in packed
        assert_all_close([p.grad for p in module.parameters()], autograd_of(network(), x, dy=torch.ones_like(y))[1:])

    def test_autocast(self):
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

    def test_autocast_casts_made_here_do_not_rob_others_of_their_gradient(self):
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

    def test_functional_call_and_parametrizations(self):
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

    def test_data_parallel(self):
        torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
        try:
            module = as_torch(network())
            x, dy = torch.randn(5, 4), torch.randn(5, 2)
            torch.nn.parallel.DistributedDataParallel(module)(x).backward(dy)
        finally:
            torch.distributed.destroy_process_group()
        assert_all_close([p.grad for p in module.parameters()], autograd_of(network(), x, dy=dy)[1:])

    def test_a_foreign_layer(self):
        layer = HeldInAList()
        module = as_torch(layer)
        assert [n for n, _ in module.named_parameters()] == ["0"]
        assert layer.tensors[0] is next(module.parameters())
        module(torch.full((1, 2), 3.0)).sum().backward()
        assert layer.tensors[0].grad.tolist() == [3, 3]
        with pytest.raises(TypeError, match=r"HeldInATuple\(\) holds 0 in no attribute"):
            as_torch(HeldInATuple())

    def test_a_wrong_backward_still_raises_our_errors(self):
        class Forgetful(Module):
            def __init__(self):
                self.part = Linear(2, 2)

            def forward(self, x):
                return self.part(x) + self.part(x)

            def backward(self, dy, *, input_gradient=True):
                return self.part.backward(dy)

        with pytest.raises(RuntimeError, match="no backward took"):
            as_torch(Forgetful())(torch.ones(1, 2)).sum().backward()

    def test_repr_shows_the_layer(self):
        assert repr(as_torch(Linear(2, 2))) == "as_torch(Linear(in_features=2, out_features=2, bias=True))"

    def test_torch_compile_breaks_its_graph_and_goes_on(self):
        module = as_torch(Linear(2, 2))
        compiled = torch.compile(lambda x: module(x * 2).sum(), backend="eager")
        x = torch.ones(1, 2, requires_grad=True)
        torch.testing.assert_close(compiled(x), module(x * 2).sum())
        compiled(x).backward()
        torch.testing.assert_close(x.grad, 2 * module.weight.detach().sum(0, keepdim=True))


def torch_network(seed=0):
    torch.manual_seed(seed)
    nn = torch.nn
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))


class TestFromTorch:
    def test_gradients_under_record_and_under_autograd(self):
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

    def test_state_parameters_buffers_and_mode_pass_through(self):
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

    def test_non_persistent_buffers_are_not_saved(self):
        module = torch.nn.Linear(2, 2)
        module.register_buffer("scratch", torch.zeros(2), persistent=False)
        assert list(from_torch(module).state_dict()) == ["weight", "bias"]

    def test_it_says_that_it_borrows(self):
        assert repr(from_torch(torch.nn.Linear(2, 2))) == "Borrowed(Linear, gradients borrowed from autograd)"
        with record() as trace:
            layer = from_torch(torch.nn.Linear(2, 2))
            layer(torch.ones(1, 2))
            assert "borrowed from autograd" in trace.kept()[0].layer
            layer.backward(None)

    def test_none_takes_the_entry(self):
        layer = from_torch(torch.nn.Linear(2, 2))
        with record() as trace:
            layer(torch.ones(1, 2))
            assert layer.backward(None) is None
            assert len(trace) == 0
        assert layer._function.weight.grad is None

    def test_nested_inputs_and_outputs(self):
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

    def test_integer_inputs_have_no_gradient_and_frozen_parameters_neither(self):
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

    def test_gradients_own_their_memory(self):
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

    def test_recomputed_with_the_same_draws_and_statistics(self):
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

    def test_back_to_torch_with_retained_graphs_and_checkpointing(self):
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


class TestFromAutograd:
    def test_a_function_of_several_tensors(self):
        layer = from_autograd(lambda x, y, power: (x**power * y, y.exp()))
        x, y = torch.rand(3), torch.rand(3)
        with record():
            first, _ = layer(x, y, 2)
            dx, dy = layer.backward(torch.ones(3), torch.ones(3))
        assert not first.requires_grad
        torch.testing.assert_close(dx, 2 * x * y)
        torch.testing.assert_close(dy, x**2 + y.exp())
        assert repr(layer) == "Borrowed(<lambda>, gradients borrowed from autograd)"

    def test_trailing_gradients_may_be_left_out(self):
        layer = from_autograd(lambda x: (x * 2, x * 3))
        with record():
            layer(torch.ones(2))
            assert layer.backward(torch.ones(2)).tolist() == [2, 2]

    def test_a_prototype_module_without_a_backward(self):
        class Prototype(Module):
            def __init__(self):
                self.a, self.b = Linear(3, 4), [Linear(4, 3), Noise()]

            def forward(self, x):
                h = torch.tanh(self.a(x))
                return self.b[1](self.b[0](h)) * x

        torch.manual_seed(0)
        prototype = Prototype()
        layer = from_autograd(prototype)
        assert list(layer.state_dict()) == list(prototype.state_dict())
        assert [n for n, _ in layer.named_parameters()] == [n for n, _ in prototype.named_parameters()]
        model = Sequential(Linear(3, 3), layer)
        x = torch.randn(2, 3)
        torch.manual_seed(1)
        with record() as trace:
            y = model(x)
            assert len(trace) == 2  # the layers inside recorded nothing
            dx = model.backward(torch.ones_like(y))
        ours = [dx, *[p.grad for p in model.parameters()]]
        torch.manual_seed(1)
        assert_all_close(ours, autograd_of(model, x, dy=torch.ones_like(y)))
        model.eval()
        assert prototype.b[1].training is False

    def test_a_parameter_that_nobody_would_fetch_is_refused(self):
        hidden = Linear(2, 3)
        layer = from_autograd(lambda x: hidden(x) * 2)
        with pytest.raises(TypeError, match=r"parameter of shape \(\d, .*pass it as an input"), record():
            layer(torch.ones(1, 2))
        frozen = from_autograd(lambda x: Linear(2, 3).requires_grad_(False)(x))
        with record():
            frozen.backward(frozen(torch.ones(1, 2)))

    def test_a_structure_that_does_not_fit_is_said(self):
        layer = from_autograd(lambda x: (x, (x, x)))
        with record():
            layer(torch.ones(2))
            with pytest.raises(TypeError, match="gradients for a tuple of 2: given a Tensor"):
                layer.backward(None, torch.ones(2))
