import threading

import pytest
import torch
from ds_core import Linear, Module, Residual, Sequential, Trace, TraceError, no_record, record, recording, reuse
from ds_core.trace import Entry, describe


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


def record_and_run(function):
    """`function`, run under a record() of its own."""

    def run():
        with record():
            function()

    return run


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


def test_a_backward_in_the_wrong_order_names_both_layers():
    first, second = Linear(3, 4), Linear(4, 5)

    @record_and_run
    def swapped():
        first.backward(second(first(torch.ones(1, 3))))

    with pytest.raises(TraceError) as caught:
        swapped()
    message = str(caught.value)
    assert "backward of Linear(in_features=3, out_features=4, bias=True)" in message
    assert "is of Linear(in_features=4, out_features=5, bias=True)" in message


def test_a_forgotten_branch_is_named_on_leaving():
    kept, forgotten = Linear(3, 4), Linear(3, 5)

    @record_and_run
    def forgetful():
        forgotten(torch.ones(1, 3))
        kept.backward(kept(torch.ones(1, 3)))

    with pytest.raises(TraceError, match=r"1 recorded call.*Linear\(in_features=3, out_features=5") as caught:
        forgetful()
    assert "None" in str(caught.value)
    assert torch.is_grad_enabled()


def test_backward_outside_record_shows_the_three_lines():
    layer = Linear(3, 2)
    with pytest.raises(TraceError) as caught:
        layer.backward(torch.ones(1, 2))
    assert str(caught.value).endswith(
        "    with record():\n        loss = criterion(model(x), y)\n        model.backward(criterion.backward())"
    )
    assert "Linear(in_features=3" in str(caught.value)


def test_backward_twice_finds_the_trace_empty():
    layer = Linear(3, 2)

    @record_and_run
    def twice():
        y = layer(torch.ones(1, 3))
        layer.backward(y)
        layer.backward(y)

    with pytest.raises(TraceError, match="empty"):
        twice()


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


def test_traces_nest():
    outer, inner = Linear(3, 3), Linear(2, 2)
    with record() as trace:
        y = outer(torch.ones(1, 3))
        with record() as second:
            inner.backward(inner(torch.ones(1, 2)))
            inner(torch.ones(1, 2))
            assert (len(trace), len(second)) == (1, 1)
            with pytest.raises(TraceError, match="in_features=2"):
                outer.backward(y)  # takes only from its own trace, the innermost
        assert len(trace) == 1
        outer.backward(y)


def test_an_error_inside_is_not_hidden_by_the_leftover_check():
    layer = Linear(3, 2)

    @record_and_run
    def failing():
        layer(torch.ones(1, 3))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert torch.is_grad_enabled()
    assert not recording()


def test_record_held_across_a_yield_is_caught_and_spoils_nothing():
    def recorder():
        with record():
            yield

    generator = recorder()
    next(generator)
    outside = record()
    outside.__enter__()
    with pytest.raises(TraceError, match="yield"):
        next(generator)  # closes its own trace while the other is on top
    assert torch.is_grad_enabled()
    with pytest.raises(TraceError, match="yield"):
        outside.__exit__(None, None, None)
    assert torch.is_grad_enabled()
    assert not recording()
    layer = Linear(2, 2)
    with record():
        layer.backward(layer(torch.ones(1, 2)))


def test_record_closed_before_what_it_holds_is_caught():
    outside, paused = record(), no_record()
    outside.__enter__()
    paused.__enter__()
    with pytest.raises(TraceError, match=r"record\(\) ended while another"):
        outside.__exit__(None, None, None)
    assert torch.is_grad_enabled()
    with pytest.raises(TraceError, match=r"no_record\(\) ended while another"):
        paused.__exit__(None, None, None)
    assert torch.is_grad_enabled()


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


def test_what_is_kept_can_be_looked_at():
    first, square = Linear(3, 4), Square()
    x = torch.ones(2, 3)
    with record() as trace:
        y = square(first(x))
        first(x)
        lines = trace.kept()
        text = str(trace)
        first.backward(None)
        first.backward(square.backward(y))
    assert [line.layer.partition("(")[0] for line in lines] == ["Linear", "Square", "Linear"]
    assert [line.shapes for line in lines] == [((2, 3),), ((2, 4),), ((2, 3),)]
    assert [line.bytes for line in lines] == [2 * 3 * 4, 2 * 4 * 4, 0]  # x is kept twice and counted once
    assert text.splitlines()[0].split() == [
        "24",
        "Linear(in_features=3,",
        "out_features=4,",
        "bias=True)",
        "[(2,",
        "3)]",
    ]
    assert text.splitlines()[-1].split() == ["56", "bytes", "in", "all"]


def test_kept_looks_into_nested_values_and_counts_views_once():
    whole = torch.ones(10)
    trace = Trace([Entry(Square(), ((whole[:5], {"a": [whole[5:]]}), 3, None)), Entry(Square(), (whole,))])
    assert [line.bytes for line in trace.kept()] == [40, 0]
    assert trace.kept()[0].shapes == ((5,), (5,))


def test_backward_lets_go_of_what_forward_kept():
    layer = Square()
    with record() as trace:
        y = layer(torch.ones(3))
        assert len(trace) == 1
        layer.backward(y)
        assert len(trace) == 0
        assert trace.kept() == []


def test_recorded_entries_can_be_gone_through_again():
    layer = Linear(3, 2)
    with record() as trace:
        y = layer(torch.ones(1, 3))
        entries = trace.take()
    for _ in range(2):
        with record(entries):
            dx = layer.backward(torch.ones_like(y))
    torch.testing.assert_close(dx, layer.weight.detach().sum(0, keepdim=True))
    torch.testing.assert_close(layer.weight.grad, torch.full((2, 3), 2.0))
    assert len(entries) == 1


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


def test_reuse_writes_in_place_only_where_that_is_safe():
    temporary = torch.ones(3)
    assert reuse(temporary) is None
    with record():
        assert reuse(temporary) is temporary
    leaf = torch.ones(3, requires_grad=True)
    scaled = leaf * 2
    torch.exp(scaled, out=reuse(scaled)).sum().backward()
    torch.testing.assert_close(leaf.grad, 2 * torch.exp(torch.full((3,), 2.0)))


def test_describe_takes_any_layer():
    class Foreign:
        pass

    assert describe(Linear(1, 2, bias=False)) == "Linear(in_features=1, out_features=2, bias=False)"
    assert describe(Foreign()) == "Foreign()"
