"""Any cell over all steps of its sequences: the loop for cells of one's own. Theory: docs/recurrence.md."""

from typing import Any, Protocol

import torch
from ds_core import Module, ShapeError
from ds_core.engine.composition import require_layer
from ds_core.engine.trace import describe
from torch import Tensor

from ds_rnn.recurrent.cell import check_state
from ds_rnn.recurrent.layout import Layout, layout_of
from ds_rnn.recurrent.walk import StepByStep, moved_on, walk

# N = sequences, T = steps, R = rows (layout.py), I = input_size, F = numbers of a state

State = tuple[Tensor, ...]


class RecurrentCell(Protocol):
    """A layer that makes one step: RNNCell, LSTMCell, GRUCell, or one of yours."""

    input_size: int

    def initial_state(self, x: Tensor) -> Any:
        """The state before the first step of N sequences, beside inputs of the dtype and device of x (N, I)."""
        ...

    def forward(self, input: Tensor, hx: Any) -> Any:
        """input (N, I), a state -> the next state: a tensor (N, F), or a tuple whose first tensor is the output."""
        ...

    def backward(self, *dstate: Tensor | None, input_gradient: bool = True) -> tuple[Tensor | None, Any]:
        """The gradients of the next state's tensors -> (dinput, those of the state, in its structure)."""
        ...


class Recurrence(Module):
    """A cell run over sequences, step after step; its backward is backpropagation through time.

    The cell keeps what its own backward needs at each step, so there is nothing to write but the cell. RNN, LSTM and
    GRU compute the same from their cells' formulas in fewer and larger products.

    Input (T, N, I), or (N, T, I) with `batch_first`, or (T, I) for one sequence, or packed; the output is the first
    tensor of the state at each step, in the same form, and the last state has N before F, or F alone for one sequence.

    Args:
        cell: a `RecurrentCell`.
        batch_first: whether N comes before T.
        reverse: whether it begins with the last step of each sequence.

    Raises:
        TypeError: `cell` is no layer, or has no `initial_state` or no `input_size`.
        ShapeError: from `forward`, if input, state or lengths do not fit.
        ValueError: from `forward`, if the next state has not as many tensors as the first one.
    """

    def __init__(self, cell: Any, *, batch_first: bool = False, reverse: bool = False) -> None:
        require_layer("Recurrence", cell)
        for name in ("initial_state", "input_size"):
            if not hasattr(cell, name):
                raise TypeError(f"Recurrence: given {describe(cell)}, which has no {name}: see docs/recurrence.md")
        self.cell = cell
        self.batch_first = batch_first
        self.reverse = reverse

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None) -> tuple[Any, Any]:
        """input, the state before the first step -> output, the last state of each sequence."""
        layout = layout_of(self, input, lengths, self.cell.input_size, self.batch_first)
        x = layout.rows(input)
        initial = self.cell.initial_state(x.new_empty(layout.sequences, x.shape[1]))
        is_tensor = isinstance(initial, Tensor)
        state = _tensors(initial) if hx is None else self._given(_tensors(hx), _tensors(initial), layout, x)
        ys = StepByStep.parts(state[0])
        for rows, count in walk(layout.batch_sizes, self.reverse):
            given = tuple(tensor[:count] for tensor in state)
            # s_t = f(x_t, s_t-1), y_t the first of its tensors                                             (1)
            made = _tensors(self.cell.forward(x[rows], given[0] if is_tensor else given))
            if len(made) != len(state):
                raise ValueError(
                    f"{describe(self)}: {describe(self.cell)} makes a state of {len(made)} tensors from one of "
                    f"{len(state)}, expected as many"
                )
            ys.put(rows, made[0])
            state = tuple(moved_on(before, after) for before, after in zip(state, made, strict=True))
        self.save(layout, x, state, is_tensor)
        last = tuple(layout.states_back(tensor.unsqueeze(0)).squeeze(0) for tensor in state)
        return layout.whole(ys.whole()), last[0] if is_tensor else last

    def backward(self, dy: Any, dlast: Any = None, *, input_gradient: bool = True) -> tuple[Any, Any]:
        """dy in the form of the output, dlast in that of the last state -> (dinput, that of the first state)."""
        layout, x, state, is_tensor = self.saved()
        if dy is None and (dlast is None or all(gradient is None for gradient in _tensors(dlast))):
            for _ in layout.batch_sizes:
                self.cell.backward(None)
            return None, None if is_tensor else (None,) * len(state)
        given = _tensors(dlast) if dlast is not None else (None,) * len(state)
        dstate = tuple(
            torch.zeros_like(tensor) if gradient is None else layout.states(gradient.unsqueeze(0)).squeeze(0)
            for tensor, gradient in zip(state, given, strict=True)
        )
        of_output = None if dy is None else layout.rows(dy)
        dxs = StepByStep.parts(x)
        for rows, count in walk(layout.batch_sizes, not self.reverse):
            dmade = [tensor[:count] for tensor in dstate]
            if of_output is not None:
                dmade[0] = dmade[0] + of_output[rows]  # ds_t = dy_t + what step t + 1 handed on            (2)
            # dx_t = ds_t df/dx_t, ds_t-1 = ds_t df/ds_t-1                                                  (3)
            dx, dbefore = self.cell.backward(*dmade, input_gradient=input_gradient)
            if dx is not None:
                dxs.put(rows, dx)
            dstate = tuple(moved_on(d, part) for d, part in zip(dstate, _tensors(dbefore), strict=True))
        dfirst = tuple(layout.states_back(tensor.unsqueeze(0)).squeeze(0) for tensor in dstate)
        return layout.whole(dxs.whole()) if input_gradient else None, dfirst[0] if is_tensor else dfirst

    def _given(self, hx: State, initial: State, layout: Layout, x: Tensor) -> State:
        """The state that was given, in the order of the rows; the cell's own shows what it must look like."""
        shapes, expected = [tuple(tensor.shape) for tensor in hx], []
        for tensor in initial:
            expected.append(layout.state_shape(1, tensor.shape[1])[1:])
        if shapes != expected:
            raise ShapeError(f"{describe(self)}: given a state of shapes {shapes} as hx, expected {expected}")
        for tensor in hx:
            check_state(self, "hx", tensor, x)
        return tuple(layout.states(tensor.unsqueeze(0)).squeeze(0) for tensor in hx)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}=True" for name in ("batch_first", "reverse") if getattr(self, name))


def _tensors(state: Any) -> State:
    return (state,) if isinstance(state, Tensor) else tuple(state)
