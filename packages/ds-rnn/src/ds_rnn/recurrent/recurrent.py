"""Layers and directions of a recurrent network, around what one of them does. Theory: docs/recurrent.md."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from ds_core import Module, ShapeError, accumulate, parameter, reuse
from ds_core.arguments import check_implementation, probability, whole_number
from ds_core.errors import check_against_weight, check_floating
from ds_core.layers.dropout import draw_dropout_mask
from torch import Tensor

from ds_rnn.recurrent.cell import check_state, in_full_precision
from ds_rnn.recurrent.layout import Layout, layout_of

# N = sequences, T = steps, R = rows (layout.py), I = input_size, H = hidden_size, P = proj_size or H, L = num_layers,
# D = directions, 1 or 2, G = gates


class Recurrent(Module):
    """What RNN, LSTM and GRU share. A subclass says what one layer does in one direction.

    Parameters, for each layer k and, with the suffix `_reverse`, for its second direction: `weight_ih_lk` (G H, I),
    above the first layer (G H, D P), `weight_hh_lk` (G H, P), `bias_ih_lk` and `bias_hh_lk` (G H,), and with a
    projection `weight_hr_lk` (P, H). All are uniform in +-1/sqrt(H) at first.
    """

    gates: ClassVar[int] = 1
    state_names: ClassVar[tuple[str, ...]] = ("hx",)
    implementations: ClassVar[Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        generator: torch.Generator | None,
        implementation: str,
    ) -> None:
        name = type(self).__name__
        check_implementation(self, implementation, self.implementations)
        self.input_size = whole_number(name, "input_size", input_size)
        self.hidden_size = whole_number(name, "hidden_size", hidden_size)
        self.num_layers = whole_number(name, "num_layers", num_layers)
        self.proj_size = whole_number(name, "proj_size", proj_size, least=0)
        if self.proj_size >= self.hidden_size:
            raise ValueError(f"{name}: given proj_size={proj_size}, expected less than hidden_size={hidden_size}")
        self.dropout = float(probability(name, "dropout", dropout))
        self.bias = bias
        self.batch_first = batch_first
        self.bidirectional = bidirectional
        self.implementation = implementation
        bound = 1 / math.sqrt(self.hidden_size)
        for layer in range(self.num_layers):
            for suffix in self._suffixes(layer):
                for weight, shape in self._shapes(layer).items():
                    first = torch.empty(*shape, device=device, dtype=dtype).uniform_(-bound, bound, generator=generator)
                    setattr(self, weight + suffix, parameter(first))

    @property
    def shown_size(self) -> int:
        """P, the numbers of a state that the layer above sees."""
        return self.proj_size or self.hidden_size

    @property
    def directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The parameters of one layer and direction, in the order of torch.nn."""
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, self.input_size if layer == 0 else self.directions * self.shown_size),
            "weight_hh": (rows, self.shown_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes

    def _weights(self, suffix: str) -> dict[str, Tensor | None]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return {name: getattr(self, name + suffix, None) for name in names}

    def _one_forward(
        self, x: Tensor, states: list[Tensor], weights: dict[str, Tensor | None], sizes: tuple[int, ...], reverse: bool
    ) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
        """One layer in one direction: rows (R, F), states (N, F) -> y (R, P), the last states, what backward needs."""
        raise NotImplementedError

    def _one_backward(
        self,
        dy: Tensor,
        dstates: list[Tensor],
        kept: tuple[Tensor, ...],
        weights: dict[str, Tensor | None],
        sizes: tuple[int, ...],
        reverse: bool,
        input_gradient: bool,
    ) -> tuple[Tensor | None, list[Tensor], dict[str, Tensor | None]]:
        """dy (R, P), dstates (N, F) -> dx (R, F), those of the first states, and of the weights by their names."""
        raise NotImplementedError

    def _forward(self, input: Any, hx: tuple[Tensor | None, ...], lengths: Any) -> tuple[Any, list[Tensor]]:
        """The output, in the form of the input, and the last states, each (L D, N, F), or (L D, F) of one sequence."""
        layout = layout_of(self, input, lengths, self.input_size, self.batch_first)
        x = layout.rows(input)
        check_floating(self, input=x)
        weight = self._weights("_l0")["weight_ih"]
        dtypes = tuple(getattr(tensor, "dtype", x.dtype) for tensor in (x, *hx))
        check_against_weight(self, x, weight)
        if weight is not None:
            x, *given = in_full_precision(weight, x, *hx)
            hx = tuple(given)
        states = [layout.states(state) for state in self._first_states(hx, layout, x)]
        ends: list[list[Tensor]] = []
        calls = []
        for layer in range(self.num_layers):
            mask = None
            if layer > 0 and self.training and self.dropout > 0:
                mask = draw_dropout_mask(x, self.dropout)
                x = x * mask
            outputs = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                begin = [state[len(ends)] for state in states]
                y, end, kept = self._one_forward(x, begin, self._weights(suffix), layout.batch_sizes, direction == 1)
                outputs.append(y)
                ends.append(end)
                calls.append((mask, kept))
            x = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]  # [y^(k,1), y^(k,2)]             (1)
        self.save(layout, calls, dtypes)
        last = [layout.states_back(torch.stack(list(kind))) for kind in zip(*ends, strict=True)]
        return layout.whole(x), last

    def _first_states(self, hx: tuple[Tensor | None, ...], layout: Layout, x: Tensor) -> list[Tensor]:
        """The states before the first step as they were given, checked; zeros for those that were not."""
        found = []
        for name, state, size in zip(self.state_names, hx, self._state_sizes(), strict=True):
            shape = layout.state_shape(self.num_layers * self.directions, size)
            if state is None:
                state = torch.zeros(shape, dtype=x.dtype, device=x.device)
            check_state(self, name, state, x)
            if state.shape != shape:
                raise ShapeError(f"{self!r}: given {name} of shape {tuple(state.shape)}, expected {shape}")
            found.append(state)
        return found

    def _state_sizes(self) -> tuple[int, ...]:
        return (self.shown_size, self.hidden_size)[: len(self.state_names)]

    def _backward(
        self, dy: Any, dlast: tuple[Tensor | None, ...], input_gradient: bool
    ) -> tuple[Any, list[Tensor | None]]:
        """The gradients of what `_forward` gave -> that of the input, in its form, and those of the first states."""
        layout, calls, (dtype, *of_states) = self.saved()
        if dy is None and all(state is None for state in dlast):
            return None, [None] * len(dlast)
        count = self.num_layers * self.directions
        like = calls[0][1][0]
        dstates = [
            like.new_zeros(count, layout.sequences, size) if dstate is None else layout.states(dstate)
            for dstate, size in zip(dlast, self._state_sizes(), strict=True)
        ]
        rows, shown = sum(layout.batch_sizes), self.directions * self.shown_size
        dx: Tensor | None = like.new_zeros(rows, shown) if dy is None else layout.rows(dy)
        begins: list[list[Tensor]] = [[]] * count
        for layer in reversed(range(self.num_layers)):
            assert dx is not None  # every layer above another one was asked for it
            dys, dx = dx.chunk(self.directions, 1), None
            wanted = input_gradient or layer > 0
            for direction, suffix in enumerate(self._suffixes(layer)):
                index = layer * self.directions + direction
                mask, kept = calls[index]
                weights, given = self._weights(suffix), [state[index] for state in dstates]
                found, begins[index], dweights = self._one_backward(
                    dys[direction], given, kept, weights, layout.batch_sizes, direction == 1, wanted
                )
                for name, gradient in dweights.items():
                    accumulate(weights[name], gradient)
                # dx^(k) = sum_d dx^(k,d)                                                                   (2)
                dx = found if dx is None or found is None else torch.add(dx, found, out=reuse(dx))
            if dx is not None and mask is not None:
                dx = dx * mask
        dfirst: list[Tensor | None] = [
            layout.states_back(torch.stack(list(kind))).to(given)
            for kind, given in zip(zip(*begins, strict=True), of_states, strict=True)
        ]
        return None if dx is None else layout.whole(dx.to(dtype)), dfirst

    def _needs(self, weights: dict[str, Tensor | None], input_gradient: bool) -> tuple[bool, ...]:
        """Which gradients are wanted: input, first states, weight_ih, weight_hh, biases, and a projection's weight."""
        wanted = {name: weight is not None and weight.requires_grad for name, weight in weights.items()}
        states = [True] * len(self.state_names)
        biases = wanted["bias_ih"] or wanted["bias_hh"]
        own = (wanted["weight_ih"], wanted["weight_hh"], biases)
        return (input_gradient, *states, *own, *([wanted["weight_hr"]] if len(states) > 1 else []))

    def _bias_gradients(self, dbias: Tensor | None) -> dict[str, Tensor | None]:
        """The same for both biases, each in memory of its own."""
        return {"bias_ih": dbias, "bias_hh": None if dbias is None else dbias.clone()}

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            **{"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False},
            "proj_size": 0,
        }
        for name, default in defaults.items():
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


class OneState(Recurrent):
    """What RNN and GRU share beyond that: their state is one tensor."""

    def forward(self, input: Any, hx: Tensor | None = None, *, lengths: Any = None) -> tuple[Any, Tensor]:
        """input, h_0 -> output, h_n; `lengths` as in `LSTM.forward`."""
        output, (h,) = self._forward(input, (hx,), lengths)
        return output, h

    def backward(self, dy: Any, dh: Tensor | None = None, *, input_gradient: bool = True) -> tuple[Any, Tensor | None]:
        """dy in the form of the output, dh in that of the last state -> (dinput, dh0)."""
        dx, (dfirst,) = self._backward(dy, (dh,), input_gradient)
        return dx, dfirst
