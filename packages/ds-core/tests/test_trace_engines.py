"""One forward, two engines: the recorded backward agrees with autograd, and neither engine disturbs the other."""

import threading

import pytest
import torch
from ds_core import Linear, Module, Residual, Sequential, TraceError, no_record, record, recording, reuse


class Square(Module):
    """y = x^2 elementwise."""

    def forward(self, x):
        self.save(x)
        return x * x

    def backward(self, dy):
        (x,) = self.saved()
        return None if dy is None else 2 * x * dy


class HalfSquaredSum(Module):
    """A loss without a target: half the sum of squares."""

    def forward(self, x):
        self.save(x)
        return (x * x).sum() / 2

    def backward(self, grad=None):
        (x,) = self.saved()
        return x if grad is None else x * grad


class SharedHeads(Module):
    """One head on two features of one body, the body's layer used twice: reuse, branches and a weight tied in one."""

    def __init__(self):
        self.body = Linear(4, 4, dtype=torch.float64)
        self.head = Linear(4, 3, dtype=torch.float64)
        self.back = Linear(3, 4, bias=False, dtype=torch.float64)

    def forward(self, x):
        first = self.body(x)
        second = self.body(first * 0.5)
        return self.head(first), self.head(second), self.back(self.head(second) * 2.0)

    def backward(self, dfirst_head, dsecond_head=None, dback=None):
        dback = self.back.backward(dback)
        dsecond = self.head.backward(None if dback is None else dback * 2.0)
        for dhead in (dsecond_head,):
            part = self.head.backward(dhead)
            dsecond = part if dsecond is None else dsecond if part is None else dsecond + part
        dfirst = self.head.backward(dfirst_head)
        through_second = self.body.backward(dsecond)
        if through_second is not None:
            dfirst = through_second * 0.5 if dfirst is None else dfirst + through_second * 0.5
        return self.body.backward(dfirst)


def gradients_of(module):
    found = {name: tensor.grad for name, tensor in module.named_parameters()}
    module.zero_grad()
    return found


def assert_same_gradients(ours, theirs):
    assert list(ours) == list(theirs)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], msg=name)


def test_both_engines_agree_on_one_forward():
    torch.manual_seed(0)
    model = Sequential(Linear(4, 6), Square(), Residual(Linear(6, 6)), Linear(6, 2, bias=False)).double()
    criterion = HalfSquaredSum()
    x = torch.randn(5, 4, dtype=torch.float64)
    with record():
        loss = criterion(model(x))
        dx = model.backward(criterion.backward())
    ours = gradients_of(model)

    leaf = x.clone().requires_grad_()
    oracle = criterion(model(leaf))
    oracle.backward()
    assert not loss.requires_grad
    torch.testing.assert_close(loss, oracle.detach())
    torch.testing.assert_close(dx, leaf.grad)
    assert_same_gradients(ours, gradients_of(model))


def test_reused_layers_branches_and_tied_weights_need_no_graph():
    torch.manual_seed(1)
    model = SharedHeads()
    x = torch.randn(2, 4, dtype=torch.float64)
    with record():
        outputs = model(x)
        dys = [torch.randn_like(y) for y in outputs]
        dx = model.backward(*dys)
    ours = gradients_of(model)
    leaf = x.clone().requires_grad_()
    torch.autograd.backward(model(leaf), dys)
    torch.testing.assert_close(dx, leaf.grad)
    assert_same_gradients(ours, gradients_of(model))


def test_none_means_zeros_and_still_takes_its_entry():
    torch.manual_seed(1)
    model = SharedHeads()
    x = torch.randn(2, 4, dtype=torch.float64)
    with record() as trace:
        outputs = model(x)
        dsecond = torch.randn_like(outputs[1])
        dx = model.backward(None, dsecond)
        assert len(trace) == 0
    ours = gradients_of(model)
    assert ours.pop("back.weight") is None
    leaf = x.clone().requires_grad_()
    model(leaf)[1].backward(dsecond)
    torch.testing.assert_close(dx, leaf.grad)
    theirs = gradients_of(model)
    assert theirs.pop("back.weight") is None
    assert_same_gradients(ours, theirs)


def test_nothing_of_autograd_runs_under_record():
    layer = Linear(3, 2)
    x = torch.randn(4, 3, requires_grad=True)
    with record():
        assert recording()
        assert not torch.is_grad_enabled()
        y = layer(x)
        assert y.grad_fn is None
        dx = layer.backward(torch.ones_like(y))
    assert dx.grad_fn is None
    assert layer.weight.grad.grad_fn is None
    assert x.grad is None
    assert torch.is_grad_enabled()
    assert not recording()


def test_outside_record_autograd_is_on_and_nothing_is_kept():
    layer = Square()
    y = layer(torch.ones(2, requires_grad=True))
    assert y.requires_grad
    with record() as trace:
        assert len(trace) == 0
    with pytest.raises(TraceError, match="outside record"):
        layer.backward(torch.ones(2))


def test_no_record_keeps_nothing_and_switches_autograd_off_in_both_engines():
    layer = Linear(3, 3)
    x = torch.ones(1, 3)
    with no_record():
        assert not torch.is_grad_enabled()
        assert not layer(x).requires_grad
    assert torch.is_grad_enabled()
    with record() as trace:
        y = layer(x)
        with no_record():
            assert not recording()
            for _ in range(3):  # generation in the middle of a training step
                layer(x)
            with pytest.raises(TraceError, match="outside record"):
                layer.backward(y)
        assert recording()
        assert not torch.is_grad_enabled()
        assert len(trace) == 1
        layer.backward(y)


def test_grad_mode_is_restored_as_it_was():
    with torch.no_grad():
        with record():
            pass
        assert not torch.is_grad_enabled()
        with no_record():
            pass
        assert not torch.is_grad_enabled()


def test_inference_mode_is_refused():
    with torch.inference_mode():
        with pytest.raises(TraceError, match="no_record"):
            record().__enter__()
        with no_record():
            Linear(2, 2)(torch.ones(1, 2))
    assert not recording()


def test_reuse_writes_in_place_only_where_that_is_safe():
    temporary = torch.ones(3)
    assert reuse(temporary) is None
    with record():
        assert reuse(temporary) is temporary
    leaf = torch.ones(3, requires_grad=True)
    scaled = leaf * 2
    torch.exp(scaled, out=reuse(scaled)).sum().backward()
    torch.testing.assert_close(leaf.grad, 2 * torch.exp(torch.full((3,), 2.0)))


def test_threads_record_on_their_own():
    start, failures = threading.Barrier(2), []

    def work(seed):
        torch.manual_seed(seed)
        model = Sequential(Linear(4, 4), Square(), Linear(4, 4)).double()
        x = torch.full((3, 4), float(seed), dtype=torch.float64)
        try:
            for _ in range(20):
                start.wait()
                with record():
                    y = model(x)
                    start.wait()  # both threads are in the middle of a recorded pass here
                    dx = model.backward(torch.ones_like(y))
                leaf = x.clone().requires_grad_()
                model(leaf).sum().backward()
                torch.testing.assert_close(dx, leaf.grad)
        except BaseException as error:
            failures.append(error)
            start.abort()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_trace_of_one_thread_is_not_seen_by_another():
    seen = []
    with record():
        thread = threading.Thread(target=lambda: seen.append((recording(), torch.is_grad_enabled())))
        thread.start()
        thread.join()
    assert seen == [(False, True)]
