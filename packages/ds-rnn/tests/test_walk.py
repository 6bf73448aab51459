"""From step to step: which rows, which states, and where results are written."""

import pytest
import torch
from ds_core import record
from ds_rnn.recurrent.walk import StepByStep, moved_on, states_before, walk


def test_walk():
    assert walk((3, 2, 2), False) == [(slice(0, 3), 3), (slice(3, 5), 2), (slice(5, 7), 2)]
    assert walk((3, 2, 2), True) == [(slice(5, 7), 2), (slice(3, 5), 2), (slice(0, 3), 3)]
    assert walk((), True) == []


def test_moved_on():
    state = torch.arange(6.0).view(3, 2)
    rows = torch.full((2, 2), 9.0)
    assert torch.equal(moved_on(state, rows), torch.tensor([[9.0, 9.0], [9.0, 9.0], [4.0, 5.0]]))
    assert moved_on(state, state) is state
    assert torch.equal(moved_on(state, rows[:0]), state)
    assert torch.equal(state, torch.arange(6.0).view(3, 2))


@pytest.mark.parametrize("handwritten", [True, False])
def test_states_before(handwritten):
    """Sequences of 3, 1 and 1 steps: each row has before it that of the step before, or the first state."""
    states, start = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]]), torch.tensor([[-1.0], [-2.0], [-3.0]])
    with torch.set_grad_enabled(not handwritten):
        forward = states_before(states, start, (3, 1, 1), False)
        reverse = states_before(states, start, (3, 1, 1), True)
    assert forward.squeeze(1).tolist() == [-1, -2, -3, 1, 4]
    assert reverse.squeeze(1).tolist() == [4, -2, -3, 5, -1]
    assert states.squeeze(1).tolist() == [1, 2, 3, 4, 5]


def test_states_before_if_all_have_all_steps():
    states, start = torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([[-1.0], [-2.0]])
    assert states_before(states, start, (2, 2), False).squeeze(1).tolist() == [-1, -2, 1, 2]
    assert states_before(states, start, (2, 2), True).squeeze(1).tolist() == [3, 4, -1, -2]
    assert states_before(states[:2], start, (2,), True).squeeze(1).tolist() == [-1, -2]
    assert states_before(states[:0], start[:0], (0, 0), False).shape == (0, 1)
    assert states_before(states[:0], start, (), False).shape == (0, 1)


def test_written_in_place_under_record_alone():
    memory = torch.zeros(3, 2)
    assert StepByStep(memory).out(slice(0, 1)) is None
    assert StepByStep.parts(memory).whole().shape == (0, 2)
    with record():
        filled = StepByStep(memory)
        filled.out(slice(1, 3)).fill_(2)
        filled.put(slice(1, 3), filled.out(slice(1, 3)))
        filled.put(slice(0, 1), torch.ones(1, 2))
        assert filled.whole() is memory
        assert StepByStep.parts(memory).out(slice(0, 1)) is None
    assert memory.tolist() == [[1, 1], [2, 2], [2, 2]]


def test_parts_are_joined_in_the_order_of_rows():
    filled = StepByStep.parts(torch.zeros(0, 2))
    for start in (3, 0, 1):
        filled.put(slice(start, start + 1), torch.full((1, 2), float(start)))
    assert filled.whole()[:, 0].tolist() == [0, 1, 3]
