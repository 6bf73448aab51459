"""Every shared generator goes on where it was."""

import json
import random

import numpy as np
import pytest
import torch
from ds_core.engine.random_state import (
    random_state,
    restore_random_state,
    restore_torch_random_state,
    torch_random_state,
    unchanged_random_state,
)
from ds_core.training.state_json import StateEncoder, decode


def draws():
    # gauss and standard_normal make two numbers and keep one: that one is state too
    return [
        torch.rand(3).tolist(),
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.standard_normal()),
    ]


def through_json(state):
    encoder = StateEncoder()
    return decode(json.loads(json.dumps(encoder.encode(state, "random"))), encoder.tensors)


def test_restored_after_a_round_trip_through_json():
    draws()
    state = through_json(random_state())
    expected = [draws(), draws()]
    assert restore_random_state(state) == []
    assert [draws(), draws()] == expected


def test_unchanged_even_by_an_error():
    state = random_state()
    expected = draws()
    restore_random_state(state)
    with pytest.raises(ZeroDivisionError), unchanged_random_state():
        sum(draws()[0]) / 0
    assert draws() == expected


def test_torch_generators_alone():
    state = torch_random_state()
    expected = torch.rand(4)
    restore_torch_random_state(state)
    assert torch.equal(torch.rand(4), expected)


def test_another_numpy_generator():
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        state = through_json(random_state())
        expected = np.random.rand(3)
        restore_random_state(state)
        assert np.array_equal(np.random.rand(3), expected)
    finally:
        np.random.set_bit_generator(before)


def test_states_of_absent_cuda_devices_are_noted():
    state = random_state() | {"cuda": [torch.get_rng_state()] * (torch.cuda.device_count() + 2)}
    if torch.cuda.device_count():
        pytest.skip("needs a machine without CUDA")
    assert restore_random_state(state) == [
        "the random states of 2 CUDA device(s) could not be restored: they are not here"
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_generators():
    torch.rand(1, device="cuda")
    state = through_json(random_state())
    expected = torch.rand(4, device="cuda")
    assert restore_random_state(state) == []
    assert torch.equal(torch.rand(4, device="cuda"), expected)
