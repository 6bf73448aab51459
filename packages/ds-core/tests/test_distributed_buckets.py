"""How parameters are put into buckets, and when a bucket is on its way: without any other process."""

import pytest
import torch
from ds_core import Linear, Sequential, accumulate, parameter
from ds_core.distributed.buckets import Plan, Reduction
from ds_core.engine.parameter import watched_accumulation


class Echo:
    """Processes whose sum is what this one gives, twice over."""

    def __init__(self):
        self.sent = []

    def sum(self, tensor):
        self.sent.append(tensor.clone())
        tensor.mul_(2)
        return self

    def wait(self):
        pass


def tensors(*sizes, dtype=torch.float32):
    return [parameter(torch.zeros(size, dtype=dtype)) for size in sizes]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((4, 4), [[3], [2], [1], [0]]),
        ((4, 100), [[3], [2, 1, 0]]),  # the first is small
        ((100, 100), [[3, 2, 1, 0]]),
        ((8, 12), [[3, 2], [1], [0]]),
        ((8, 13), [[3, 2], [1, 0]]),
    ],
)
def test_buckets_are_filled_in_the_order_of_completion(sizes, expected):
    assert Plan(tensors(4, 3, 1, 1), [3, 2, 1, 0], sizes).buckets == expected  # of 16, 12, 4, 4 bytes


def test_a_bucket_has_one_dtype():
    parameters = [*tensors(1, 1), *tensors(1, 1, dtype=torch.float64)]
    assert Plan(parameters, [0, 2, 1, 3], (100, 100)).buckets == [[0, 1], [2, 3]]


def test_no_parameters():
    reduction = Reduction(Echo(), [], None, 1.0)
    reduction.sums = [3.0]
    reduction.finish(Plan([], [], (1, 1)))
    assert reduction.sums == [6.0]


def step(processes, parameters, plan, calls, scale=1.0):
    """One step whose backward makes these calls; the number of vectors on their way after each of them."""
    reduction, on_the_way = Reduction(processes, parameters, plan, scale), []
    with watched_accumulation(reduction.tell):
        for index in calls:
            accumulate(parameters[index], torch.ones(parameters[index].shape))
            on_the_way.append(len(processes.sent))
    plan = plan or Plan(parameters, reduction.order(), (4, 4))
    reduction.finish(plan)
    processes.sent.clear()
    return plan, on_the_way


def gradients(parameters):
    return [None if parameter.grad is None else parameter.grad.tolist() for parameter in parameters]


def test_a_bucket_goes_with_the_last_call_of_the_step():
    parameters, processes = tensors(1, 1, 1, 1), Echo()
    plan, on_the_way = step(processes, parameters, None, [2, 1, 2, 0])
    assert on_the_way == [0, 0, 0, 0]  # nothing is known yet
    assert plan.buckets == [[1], [2], [0], [3]]  # by the last call; what had none comes last
    assert plan.calls == [1, 1, 2, 0]
    assert gradients(parameters) == [[2], [2], [4], None]
    for tensor in parameters:
        tensor.grad = None
    _, on_the_way = step(processes, parameters, plan, [2, 1, 2, 0])
    assert on_the_way == [0, 1, 2, 3]
    assert gradients(parameters) == [[2], [2], [4], None]


def test_a_bucket_waits_for_those_before_it_and_the_last_for_the_end():
    parameters, processes = tensors(1, 1, 1), Echo()
    plan, _ = step(processes, parameters, None, [2, 1, 0])
    _, on_the_way = step(processes, parameters, plan, [0, 1, 2])
    assert on_the_way == [0, 0, 2]


def test_more_and_fewer_calls_than_before():
    parameters, processes = tensors(2, 1), Echo()
    plan, _ = step(processes, parameters, None, [0, 1])
    for calls, on_the_way, expected in (
        ([0, 0, 1, 0], [1, 1, 1, 1], [[6, 6], [2]]),  # twice after its bucket had gone
        ([0, 0, 0, 1], [0, 0, 1, 1], [[6, 6], [2]]),  # which is known from now on
        ([1], [0], [None, [2]]),
        ([], [], [None, None]),
        ([0], [0], [[2, 2], None]),
    ):
        for tensor in parameters:
            tensor.grad = None
        assert step(processes, parameters, plan, calls)[1] == on_the_way
        assert gradients(parameters) == expected
    assert plan.calls == [3, 1]


def test_scaling_and_what_was_there_before():
    parameters = tensors(2)
    parameters[0].grad = torch.tensor([1.0, 3.0])
    step(Echo(), parameters, None, [0], scale=0.25)
    assert gradients(parameters) == [[1.0, 2.0]]


def test_parameters_of_others_do_not_matter():
    parameters, processes = tensors(1), Echo()
    reduction = Reduction(processes, parameters, None, 1.0)
    reduction.tell(parameter(torch.zeros(1)))
    assert reduction.order() == [0]


def test_watched_accumulation():
    model, seen = Sequential(Linear(1, 1), Linear(1, 1)), []
    model[0].requires_grad_(False)
    tensor = model[1].weight
    with watched_accumulation(seen.append):
        accumulate(tensor, torch.ones(1, 1))
        with watched_accumulation(lambda other: None):
            accumulate(tensor, torch.ones(1, 1))
        accumulate(tensor, None)
        accumulate(model[0].weight, torch.ones(1, 1))
        accumulate(None, torch.ones(1))
    accumulate(tensor, torch.ones(1, 1))
    assert [id(one) for one in seen] == [id(tensor)] * 2
    assert tensor.grad.item() == 3
