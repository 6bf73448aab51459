"""What recurrent cells share: parameters and how they begin, inputs with or without batch. Theory: docs/rnn_cell.md."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from ds_core import Module, ShapeError, accumulate, linear, parameter, reuse
from ds_core.activations.sigmoid import logistic
from ds_core.arguments import check_implementation, shown, whole_number
from ds_core.engine.trace import describe
from ds_core.errors import check_against_weight, check_floating
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.precision import under_autocast
from torch import Tensor

# N = batch, I = input_size, H = hidden_size, G = gates


class Form(NamedTuple):
    """How an input and its states were given: with a batch or without, and the dtype of each."""

    batched: bool
    dtypes: tuple[torch.dtype, ...]


class Cell(Module):
    """Parameters `weight_ih` (G H, I), `weight_hh` (G H, H), `bias_ih` and `bias_hh` (G H,), uniform in +-1/sqrt(H)."""

    gates: ClassVar[int] = 1
    state_names: ClassVar[tuple[str, ...]] = ("hx",)
    implementations: ClassVar[Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        generator: torch.Generator | None,
        implementation: str,
    ) -> None:
        name = type(self).__name__
        check_implementation(self, implementation, self.implementations)
        self.input_size = whole_number(name, "input_size", input_size, least=0)
        self.hidden_size = whole_number(name, "hidden_size", hidden_size)
        self.implementation = implementation
        bound = 1 / math.sqrt(self.hidden_size)

        def uniform(*shape: int) -> Tensor:
            return parameter(
                torch.empty(*shape, device=device, dtype=dtype).uniform_(-bound, bound, generator=generator)
            )

        rows = self.gates * self.hidden_size
        self.weight_ih = uniform(rows, self.input_size)
        self.weight_hh = uniform(rows, self.hidden_size)
        self.bias_ih = uniform(rows) if bias else None
        self.bias_hh = uniform(rows) if bias else None

    def initial_state(self, x: Tensor) -> Any:
        """The state before the first step of the sequences whose first inputs are x (N, I): zeros (N, H)."""
        zeros = tuple(x.new_zeros(len(x), self.hidden_size) for _ in self.state_names)
        return zeros if len(zeros) > 1 else zeros[0]

    def _weights(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _batch(self, input: Tensor, *states: Tensor | None) -> tuple[Tensor, list[Tensor], Form]:
        """The input as (N, I) and the states as (N, H), zeros for one that is not given; and how they were given."""
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            expected = f"(N, {self.input_size}) or ({self.input_size},)"
            raise ShapeError(f"{self!r}: given input of shape {tuple(input.shape)}, expected {expected}")
        check_floating(self, input=input)
        check_against_weight(self, input, self.weight_ih)
        dtypes = tuple(getattr(tensor, "dtype", input.dtype) for tensor in (input, *states))
        input, *states = in_full_precision(self.weight_ih, input, *states)  # type: ignore[assignment]
        shape = (*input.shape[:-1], self.hidden_size)
        found = []
        for name, state in zip(self.state_names, states, strict=True):
            if state is None:
                state = torch.zeros(shape, dtype=input.dtype, device=input.device)
            check_state(self, name, state, input)
            if state.shape != shape:
                raise ShapeError(
                    f"{self!r}: given {name} of shape {tuple(state.shape)}, expected {shape} beside input of shape "
                    f"{tuple(input.shape)}"
                )
            found.append(state)
        form = Form(input.dim() == 2, dtypes)
        if form.batched:
            return input, found, form
        return input[None], [state[None] for state in found], form

    def _as_given(self, form: Form, *gradients: Tensor | None) -> list[Tensor | None]:
        """The gradients of the input and of the states, in the form that these had."""
        rows = [g if g is None or form.batched else g[0] for g in gradients]
        return [None if g is None else g.to(dtype) for g, dtype in zip(rows, form.dtypes, strict=True)]

    def _needs(self, input_gradient: bool, states: int) -> tuple[bool, ...]:
        """Which gradients are wanted: input, states, the two weights, biases. The steps before need those of states."""
        biases = any(bias is not None and bias.requires_grad for bias in (self.bias_ih, self.bias_hh))
        return (input_gradient, *[True] * states, self.weight_ih.requires_grad, self.weight_hh.requires_grad, biases)

    def _accumulate(self, dweight_ih: Tensor | None, dweight_hh: Tensor | None, *dbiases: Tensor | None) -> None:
        """Add the gradients of the parameters; one of both biases is copied, because each owns its gradient."""
        accumulate(self.weight_ih, dweight_ih)
        accumulate(self.weight_hh, dweight_hh)
        first, last = dbiases[0], dbiases[-1]
        accumulate(self.bias_ih, first.clone() if first is last and first is not None else first)
        accumulate(self.bias_hh, last)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias_ih is not None else ", bias=False")


def in_full_precision(weight: Tensor, *given: Any) -> tuple[Any, ...]:
    """Under autocast floating tensors in the dtype of `weight`, for steps are calculated in it, whatever comes in."""
    if not under_autocast(weight):
        return given
    return tuple(x.to(weight.dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in given)


def check_state(layer: object, name: str, state: Any, x: Tensor) -> None:
    """Raise, naming `layer` and the state, unless it has the dtype and the device of the input `x`.

    Raises:
        TypeError: it is no tensor.
        ShapeError: it has another dtype, or is on another device.
    """
    if not isinstance(state, Tensor):
        raise TypeError(f"{describe(layer)}: given {shown(state)} as {name}, expected a tensor")
    for what, given, expected in (("in", state.dtype, x.dtype), ("on", state.device, x.device)):
        if given != expected:
            raise ShapeError(
                f"{describe(layer)}: given {name} {what} {given} beside input {what} {expected}: convert one of them"
            )


def pair_of_states(layer: object, name: str, pair: Any) -> tuple[Tensor | None, Tensor | None]:
    """h and c of an LSTM's argument, None for each if it is None.

    Raises:
        TypeError: it is no pair; `layer` and `name` say in the message whose and which.
    """
    if pair is None:
        return None, None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        given = f"{len(pair)} values" if isinstance(pair, (tuple, list)) else f"a {type(pair).__name__}"
        raise TypeError(f"{layer!r}: given {given} as {name}, expected a pair (h, c)")
    return pair[0], pair[1]


def input_part(x: Tensor, weight_ih: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None) -> Tensor:
    """x (R, I) -> x W_ih^T + b_ih + b_hh: what needs no state, so that over a sequence it is one product."""
    return linear(x, weight_ih, None if bias_ih is None or bias_hh is None else bias_ih + bias_hh)


def fast_tanh(x: Tensor, out: Tensor | None = None) -> Tensor:
    """tanh(x) = 2 s(2x) - 1, s the logistic, in `out` if that is given, which may be x itself.

    It takes half the time of ds-core's `tanh`. Its error is that of numbers near 1, even where tanh(x) is small.
    """
    t = logistic(torch.mul(x, -2 * LOG2_E, out=out))
    t = torch.mul(t, 2, out=reuse(t))
    return torch.sub(t, 1, out=reuse(t))
