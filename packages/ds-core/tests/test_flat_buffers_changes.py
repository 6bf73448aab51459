"""Packed parameters, their states and groups may be changed from outside, and copied: what comes out stays right."""

import copy
import io
import pickle

import pytest
import torch
from ds_core import Adam
from packed_twins import OPTIMIZERS, Twins, give_gradients, packed


@pytest.fixture(params=OPTIMIZERS)
def make(request):
    return OPTIMIZERS[request.param]


def test_other_dtype(make):
    twins = Twins(make, torch.float32)
    twins.steps(3)

    def change(parameters, _):
        for parameter in parameters[:4]:
            parameter.grad = None
            parameter.data = parameter.data.double()

    twins.on_both(change)
    twins.steps(3)
    assert twins.pair[0][0].dtype == torch.float64
    assert all(
        value.dtype == torch.float64
        for name, value in twins.optimizers[0].state[twins.pair[0][0]].items()
        if name not in ("step", "mu_product")
    )


def test_replaced_data_and_layout(make):
    twins = Twins(make)
    twins.steps(3)

    def change(parameters, _):
        parameters[0].data = torch.ones(3, 4, dtype=torch.float64).t()
        parameters[6].data = parameters[6].data.t()

    twins.on_both(change)
    twins.steps(3)
    assert not twins.pair[0][0].is_contiguous()


def test_another_shape():
    """As when rows are added to an embedding; plain SGD keeps nothing that would not fit any more."""
    twins = Twins(OPTIMIZERS["SGD"])
    twins.steps(2)

    def change(parameters, _):
        parameters[0].grad = None
        parameters[0].data = torch.ones(2, 2, dtype=torch.float64)
        parameters[1].grad = None
        parameters[1].data = torch.ones(1, dtype=torch.float64)

    twins.on_both(change)
    twins.steps(3)


def test_mixed_dtypes_in_one_group(make):
    twins = Twins(make)

    def change(parameters, _):
        for parameter in parameters[::2]:
            parameter.data = parameter.data.float()

    twins.on_both(change)
    twins.steps(4)
    assert packed(twins.optimizers[0]) == [2, 4]
    assert twins.pair[0][2].dtype == torch.float32


def test_gradients_of_another_layout(make):
    twins = Twins(make)
    twins.steps(2)
    expected = copy.deepcopy((twins.pair[1], twins.optimizers[1]))
    give_gradients(twins.pair[0], 7)
    give_gradients(expected[0], 7)
    twins.pair[0][6].grad = twins.pair[0][6].grad.t().contiguous().t()
    twins.optimizers[0].step()
    expected[1].step()
    torch.testing.assert_close(twins.pair[0], expected[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda parameters, optimizer: optimizer.state.clear(),
        lambda parameters, optimizer: optimizer.state.pop(parameters[1], None),
        lambda parameters, optimizer: optimizer.state.__setitem__(
            parameters[2], {name: torch.ones_like(value) for name, value in optimizer.state[parameters[2]].items()}
        ),
        lambda parameters, optimizer: [
            optimizer.state[parameters[3]].__setitem__(name, value + 1)
            for name, value in optimizer.state[parameters[3]].items()
        ],
        lambda parameters, optimizer: [value.zero_() for value in optimizer.state[parameters[4]].values()],
        lambda parameters, optimizer: optimizer.param_groups[0]["params"].pop(2),
        lambda parameters, optimizer: optimizer.param_groups[0].update(lr=0.5, weight_decay=0.01),
        lambda parameters, optimizer: optimizer.unpack(),
        lambda parameters, optimizer: optimizer.prepare_compile(),
        lambda parameters, optimizer: optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict())),
    ],
    ids=[
        "clear",
        "pop",
        "replace state",
        "replace tensors",
        "in place",
        "leave group",
        "options",
        "unpack",
        "prepare",
        "load",
    ],
)
def test_changes_from_outside_are_noticed(make, change):
    twins = Twins(make)
    twins.steps(3)
    for parameters, optimizer in zip(twins.pair, twins.optimizers, strict=True):
        for parameter in parameters:
            optimizer.state[parameter]  # plain SGD has no state of its own accord
        change(parameters, optimizer)
    twins.steps(4)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair)), "torch.save"])
def test_copies_go_on_alike_and_apart(make, copier):
    twins = Twins(make)
    twins.steps(3)
    original = (twins.pair[0], twins.optimizers[0])
    if copier == "torch.save":
        file = io.BytesIO()
        torch.save(original, file)
        file.seek(0)
        parameters, optimizer = torch.load(file, weights_only=False)
    else:
        parameters, optimizer = copier(original)
    before = [parameter.detach().clone() for parameter in twins.pair[0]]
    for step in range(3, 6):
        give_gradients(parameters, step)
        optimizer.step()
    assert all(torch.equal(parameter, value) for parameter, value in zip(twins.pair[0], before, strict=True))
    twins.steps(3)
    torch.testing.assert_close(parameters, twins.pair[0], rtol=1e-13, atol=1e-15)


def test_a_copied_state_takes_the_memory_of_its_tensors_alone():
    parameters = [torch.ones(1000, requires_grad=True) for _ in range(20)]
    optimizer = Adam(parameters)
    for _ in range(2):
        give_gradients(parameters, 0)
        optimizer.step()
    assert packed(optimizer) == [20]
    assert len(pickle.dumps(optimizer)) < 3 * 20 * 4000 * 1.2
