"""The steps of a batch of sequences, and what goes from one to the next. Theory: docs/walk.md."""

from collections.abc import Sequence

import torch
from ds_core import reuse
from torch import Tensor

# N = sequences, the longest first; T = steps of the longest; b_t = sequences that have a step t: the first b_t of them;
# R = b_0 + ... + b_(T-1), the steps of all sequences, each a row; F = numbers of a row


def walk(batch_sizes: Sequence[int], reverse: bool) -> list[tuple[slice, int]]:
    """For each step its rows and how many there are, b_t; the last step first with `reverse`."""
    steps, start = [], 0
    for count in batch_sizes:
        steps.append((slice(start, start + count), count))
        start += count
    return steps[::-1] if reverse else steps


def moved_on(state: Tensor, rows: Tensor) -> Tensor:
    """The state (N, F) of all sequences once the first b have made a step and are in the state `rows` (b, F)."""
    count = rows.shape[0]
    return rows if count == state.shape[0] else torch.cat([rows, state[count:]])


def states_before(states: Tensor, start: Tensor, batch_sizes: Sequence[int], reverse: bool) -> Tensor:
    """states (R, F) after each step, start (N, F) before the first -> the states (R, F) before each step."""
    count = len(start)
    if len(batch_sizes) > 0 and batch_sizes[-1] == count:  # all sequences have all steps: moved on by one step
        return torch.cat([states[count:], start] if reverse else [start, states[: len(states) - count]])
    before, state = StepByStep(torch.empty_like(states)), start
    for rows, count in walk(batch_sizes, reverse):
        before.put(rows, state[:count])
        state = moved_on(state, states[rows])
    return before.whole()


class StepByStep:
    """A tensor (R, F) that is filled step by step, in any order.

    It is written in place where that is safe (`reuse`), and joined of its parts where autograd or the compiler want
    each result to be a tensor of its own, or where the parts have another dtype first.
    """

    def __init__(self, memory: Tensor, in_place: bool = True) -> None:
        self._memory = memory
        self._in_place = in_place and reuse(memory) is not None
        self._parts: dict[int, Tensor] = {}

    @classmethod
    def parts(cls, like: Tensor) -> "StepByStep":
        """One that is joined at the end, of parts with the last dimension and dtype of `like`."""
        return cls(like.new_empty(0, like.shape[-1]), in_place=False)

    def out(self, rows: slice) -> Tensor | None:
        """Where to write these rows, if in place; `put` them all the same."""
        return self._memory[rows] if self._in_place else None

    def put(self, rows: slice, part: Tensor) -> None:
        if not self._in_place:
            self._parts[rows.start] = part
        elif part.data_ptr() != self._memory[rows].data_ptr():
            self._memory[rows] = part

    def whole(self) -> Tensor:
        if self._in_place:
            return self._memory
        return torch.cat([self._memory[:0], *(self._parts[start] for start in sorted(self._parts))])
