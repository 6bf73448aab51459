"""The trace as a list of calls: its order is checked, its leftovers are named, and it can be looked at."""

import pytest
import torch
from ds_core import Linear, Module, Trace, TraceError, no_record, record, recording
from ds_core.engine.trace import Entry, describe


class Square(Module):
    """y = x^2 elementwise."""

    def forward(self, x):
        self.save(x)
        return x * x

    def backward(self, dy):
        (x,) = self.saved()
        return None if dy is None else 2 * x * dy


def record_and_run(function):
    """`function`, run under a record() of its own."""

    def run():
        with record():
            function()

    return run


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


def test_describe_takes_any_layer():
    class Foreign:
        pass

    assert describe(Linear(1, 2, bias=False)) == "Linear(in_features=1, out_features=2, bias=False)"
    assert describe(Foreign()) == "Foreign()"


def test_a_record_that_is_open_cannot_be_entered_again():
    again = record()
    hooks = len(torch.nn.modules.module._global_forward_pre_hooks)
    with again:
        with pytest.raises(TraceError, match="is open already"):
            again.__enter__()
        assert recording()
    assert torch.is_grad_enabled()
    assert len(torch.nn.modules.module._global_forward_pre_hooks) == hooks
    with again:
        assert recording()
