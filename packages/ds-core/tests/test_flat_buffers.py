"""Packing changes how small parameters are updated and never what comes out."""

import pytest
import torch
from ds_core import AdamW
from ds_core.optimizers import flat_buffers
from ds_core.optimizers.flat_buffers import Scratch
from packed_twins import OPTIMIZERS, Twins, give_gradients, packed, start


@pytest.fixture(params=OPTIMIZERS)
def make(request):
    return OPTIMIZERS[request.param]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_packed_equals_alone(make, dtype):
    twins = Twins(make, dtype)
    twins.steps(10)
    assert packed(twins.optimizers[0]) == [6]  # all but the empty one
    assert packed(twins.optimizers[1]) == []


def test_gradients_stay_as_they_were_given(make):
    twins = Twins(make)
    twins.steps(2)
    parameters, optimizer = twins.pair[0], twins.optimizers[0]
    give_gradients(parameters, 5)
    before = [(parameter.grad, parameter.grad.clone()) for parameter in parameters]
    optimizer.step()
    for parameter, (gradient, value) in zip(parameters, before, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, value)


def test_memory_of_parameters_is_left_alone(make):
    twins = Twins(make)
    addresses = [parameter.data_ptr() for parameter in twins.pair[0]]
    twins.steps(4)
    assert [parameter.data_ptr() for parameter in twins.pair[0]] == addresses


def test_missing_gradients_come_and_go(make):
    twins = Twins(make)
    for missing in [(0, 3), (0, 3), (), (), (1,), (), (), (0, 1, 2, 3, 4, 5, 6), (2,), (), (), ()]:
        twins.steps(1, missing)
    states = [twins.optimizers[0].state[parameter] for parameter in twins.pair[0]]
    counted = [state["step"].item() for state in states if "step" in state]
    assert counted in ([], [9, 10, 10, 9, 11, 11, 11])
    assert sum(packed(twins.optimizers[0])) in (5, 6)


def test_groups_are_packed_apart():
    def make(parameters, **options):
        groups = [{"params": parameters[:3], "lr": 0.5}, {"params": parameters[3:], "weight_decay": 0.5}]
        return AdamW(groups, lr=0.05, **options)

    twins = Twins(make)
    twins.steps(3)
    assert packed(twins.optimizers[0]) == [3, 3]
    late = [[torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2)] for _ in range(2)]
    for parameters, optimizer, new in zip(twins.pair, twins.optimizers, late, strict=True):
        optimizer.add_param_group({"params": new, "lr": 0.1})
        parameters += new
    twins.steps(3)
    assert packed(twins.optimizers[0]) == [2, 3, 3]


def test_a_learning_rate_that_stays_a_tensor():
    """As one on a GPU does."""
    parameters, alone = start(), start()
    optimizers = AdamW(parameters, lr=0.05), AdamW(alone, lr=0.05, flat=False)
    for step in range(4):
        for own, optimizer in zip((parameters, alone), optimizers, strict=True):
            give_gradients(own, step)
            optimizer.step()
    (pack,) = optimizers[0]._packs[0]
    direction = torch.ones_like(pack.gradient)
    before = [parameter.detach().clone() for parameter in pack.parameters]
    with torch.no_grad():
        pack.move((direction, direction * 2), torch.tensor(0.5, dtype=torch.float64), optimizers[0].param_groups[0])
    for parameter, value in zip(pack.parameters, before, strict=True):
        torch.testing.assert_close(parameter.detach(), value * (1 - 0.05 * 0.01) - 0.25)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_big_parameters_are_updated_chunk_by_chunk(name, monkeypatch):
    make = OPTIMIZERS[name]
    whole = Twins(make)
    whole.steps(5)
    monkeypatch.setattr(flat_buffers, "chunk_size", lambda device: 8)
    monkeypatch.setattr("ds_core.optimizers.flat_optimizer.chunk_size", lambda device: 8)
    cut = Twins(make)
    cut.steps(5)
    for ours, expected in zip(cut.pair[0], whole.pair[1], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-15)


def test_big_and_small_packs_are_kept_within_a_chunk(monkeypatch):
    monkeypatch.setattr(flat_buffers, "chunk_size", lambda device: 30)
    twins = Twins(OPTIMIZERS["Adam"])
    twins.steps(5)
    sizes = [pack.gradient.numel() for pack in twins.optimizers[0]._packs[0]]
    assert max(sizes) <= 30
    assert len(sizes) > 1


def test_scratch_is_made_once():
    scratch = Scratch()
    first = scratch.flat(5, torch.float32, torch.device("cpu"))
    assert scratch.flat(3, torch.float32, torch.device("cpu")).data_ptr() == first.data_ptr()
    assert scratch.flat(3, torch.float64, torch.device("cpu")).data_ptr() != first.data_ptr()
    assert scratch.like(torch.zeros(3, 4)) is None
    assert scratch.like(torch.zeros(2**17)).shape == (2**17,)
