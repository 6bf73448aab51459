"""The three implementations of attention against each other: outputs, probabilities, every gradient, all arguments."""

import math
from typing import NamedTuple

import pytest
import torch
from ds_transformers import (
    attention,
    attention_backward,
    plain_attention,
    plain_attention_backward,
    tiled_attention,
    tiled_attention_backward,
)
from hypothesis import given, settings
from hypothesis import strategies as st

EXACT = {"rtol": 1e-12, "atol": 1e-12}


class Sizes(NamedTuple):
    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    value_width: int


sizes_drawn = st.builds(
    Sizes,
    batch=st.integers(0, 2),
    heads=st.integers(1, 3),
    queries=st.integers(0, 5),
    keys=st.integers(0, 5),
    width=st.integers(1, 4),
    value_width=st.integers(1, 4),
)
# which dimensions of `visible` are the full ones; the others have size 1
SHARED = [(1, 1, 1, 1), (0, 0, 1, 1), (1, 0, 0, 1), (0, 1, 1, 1), (1, 0, 1, 0)]


class Numbers:
    """Everything that the implementations are given, drawn from one seed."""

    def __init__(self, sizes: Sizes, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.sizes = sizes
        b, h, q, k, d, v = sizes
        self.inputs = [self.normal(b, h, length, width) for length, width in ((q, d), (k, d), (k, v))]
        self.dout = self.normal(b, h, q, v)
        self.full = (b, h, q, k)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=self.generator)

    def mask(self, kind: str, shared: tuple[int, ...]) -> torch.Tensor | None:
        """Of the given kind; half of the rows of "nothing seen" hide every key."""
        shape = [size if full else 1 for size, full in zip(self.full, shared, strict=True)]
        seen = torch.rand(shape, generator=self.generator) < 0.6
        if kind == "none":
            return None
        if kind == "boolean":
            return seen
        if kind == "floating":
            return self.normal(*shape)
        rows = torch.rand([*shape[:3], 1], generator=self.generator) < 0.5
        hidden = ~seen if kind == "-inf" else rows.expand(shape)
        return self.normal(*shape).masked_fill(hidden, -math.inf)

    def dropout_mask(self) -> torch.Tensor:
        return (torch.rand(self.full, generator=self.generator) < 0.7).double() / 0.7


arguments = given(
    sizes=sizes_drawn,
    kind=st.sampled_from(["none", "boolean", "floating", "-inf", "nothing seen"]),
    shared=st.sampled_from(SHARED),
    causal=st.booleans(),
    dropped=st.booleans(),
    scale=st.sampled_from([None, 0.3, -1.5]),
    seed=st.integers(0, 1000),
)
often = settings(max_examples=60, deadline=None, derandomize=True)


@often
@arguments
def test_the_three_implementations_agree(sizes, kind, shared, causal, dropped, scale, seed):
    numbers = Numbers(sizes, seed)
    dropout_mask = numbers.dropout_mask() if dropped else None
    options = {"visible": numbers.mask(kind, shared), "causal": causal, "scale": scale, "dropout_mask": dropout_mask}
    loops, p = plain_attention(*numbers.inputs, **options)
    vectorized, probabilities = attention(*numbers.inputs, **options)
    tiled, logs = tiled_attention(*numbers.inputs, **options, rows=2)
    torch.testing.assert_close(p, probabilities, **EXACT)
    torch.testing.assert_close(loops, vectorized, **EXACT)
    torch.testing.assert_close(tiled, vectorized, **EXACT)
    results = [
        plain_attention_backward(numbers.dout, *numbers.inputs, loops, p, **options),
        attention_backward(numbers.dout, *numbers.inputs, vectorized, probabilities, **options),
        tiled_attention_backward(numbers.dout, *numbers.inputs, tiled, logs, **options, rows=2),
    ]
    for by_loops, wanted, by_tiles in zip(*results, strict=True):
        assert wanted.isfinite().all()
        torch.testing.assert_close(by_loops, wanted, **EXACT)
        torch.testing.assert_close(by_tiles, wanted, **EXACT)


@often
@arguments
def test_they_agree_where_the_probabilities_have_a_gradient(sizes, kind, shared, causal, dropped, scale, seed):
    """The tiled implementation has no probabilities to hand out, so this is about the other two."""
    numbers = Numbers(sizes, seed)
    dropout_mask = numbers.dropout_mask() if dropped else None
    options = {"visible": numbers.mask(kind, shared), "causal": causal, "scale": scale, "dropout_mask": dropout_mask}
    results = attention(*numbers.inputs, **options)
    options["dprobabilities"] = numbers.normal(*numbers.full)
    found = plain_attention_backward(numbers.dout, *numbers.inputs, *results, **options)
    wanted = attention_backward(numbers.dout, *numbers.inputs, *results, **options)
    torch.testing.assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("implementation", [plain_attention, attention, tiled_attention])
def test_a_row_that_sees_nothing_is_zero_in_each(implementation):
    """So that the cases above do hold such rows: five queries and three keys, of which the first two see none."""
    numbers = Numbers(Sizes(1, 1, 5, 3, 2, 2), seed=0)
    output, _ = implementation(*numbers.inputs, causal=True)
    assert (output[0, 0, :2] == 0).all()
    assert (output[0, 0, 2] == numbers.inputs[2][0, 0, 0]).all()
