"""Greedy decoding against a loop over the sentences, and its special cases."""

import math

import pytest
import torch
from ds_core import ShapeError, primitives_only, record
from ds_core.text.decoding.greedy import greedy
from hypothesis import given, settings
from hypothesis import strategies as st
from prefix_models import PrefixModel, RunningSum, TableModel

BEGIN, END, PAD = 0, 1, 2


def one_by_one(model: PrefixModel, source: torch.Tensor, limits: list[int], pad: int | None) -> list[list[int]]:
    found = []
    for row, limit in zip(source.tolist(), limits, strict=True):
        body: list[int] = []
        while len(body) < limit:
            logits = model.logits(tuple(row), (BEGIN, *body)).tolist()
            token = max((t for t in range(model.vocabulary) if t != pad), key=lambda t, logits=logits: (logits[t], -t))
            if token == END:
                break
            body.append(token)
        found.append(body)
    return found


@given(
    vocabulary=st.integers(3, 7),
    limits=st.lists(st.integers(0, 8), max_size=5),
    length=st.integers(0, 2),
    pad=st.sampled_from([None, PAD]),
    alike=st.sampled_from([0.0, 1.5]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_greedy_takes_the_likeliest_token_each_time(
    vocabulary: int, limits: list[int], length: int, pad: int | None, alike: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(0, 9, (len(limits), length), generator=generator)
    model = PrefixModel(vocabulary, seed, alike=alike)
    longest = torch.tensor(limits, dtype=torch.int64)
    found = greedy(model, source, begin=BEGIN, end=END, max_length=longest, pad=pad)
    assert found == one_by_one(model, source, limits, pad)
    assert sum(model.asked) == sum(min(len(body) + 1, limit) for body, limit in zip(found, limits, strict=True))


def test_the_state_follows_its_rows() -> None:
    """A model whose buffer changes in place: sentences end one after the other, and the rest continue as if alone."""
    model = RunningSum(6, 4)
    source = torch.randint(0, 6, (9, 3), generator=torch.Generator().manual_seed(1))
    options = {"begin": BEGIN, "end": END, "max_length": 10}
    with record() as trace:
        together = greedy(model, source, **options)
        assert len(trace) == 0
    assert together == [greedy(model, row.unsqueeze(0), **options)[0] for row in source]
    assert len({len(body) for body in together}) > 2
    assert model.training


def test_lengths_of_none_and_one() -> None:
    model = TableModel({(): [0.1, 0.2, 0.3, 0.4], (3,): [0.0, 0.9, 0.1, 0.0]})
    source = torch.zeros(2, 0, dtype=torch.int64)
    assert greedy(model, source[:0], begin=BEGIN, end=END, max_length=3) == []
    assert greedy(model, source, begin=BEGIN, end=END, max_length=0) == [[], []]
    assert model.asked == []
    assert greedy(model, source, begin=BEGIN, end=END, max_length=1) == [[3], [3]]
    assert greedy(model, source, begin=BEGIN, end=END, max_length=torch.tensor([0, 5])) == [[], [3]]
    ends = TableModel({(): [0.1, 0.5, 0.2, 0.2]})
    assert greedy(ends, source, begin=BEGIN, end=END, max_length=4) == [[], []]
    assert ends.asked == [2]
    assert (
        greedy(TableModel({(): [0.1, 0.2, 0.4, 0.3]}), source, begin=BEGIN, end=END, max_length=1, pad=PAD) == [[3]] * 2
    )


def test_caches_are_moved_only_where_a_sentence_ends() -> None:
    model = TableModel({(3,) * n: [0.1, 0.2, 0.3, 0.4] for n in range(5)})
    source = torch.zeros(3, 1, dtype=torch.int64)
    greedy(model, source, begin=BEGIN, end=END, max_length=torch.tensor([4, 2, 4]))
    assert (model.asked, model.moved) == ([3, 3, 2, 2], 1)


def test_begin_may_be_end() -> None:
    model = TableModel({(): [0.4, 0.6], (1,): [0.9, 0.1]})
    assert greedy(model, torch.zeros(1, 1), begin=0, end=0, max_length=4) == [[1]]


def test_only_primitive_operations_run() -> None:
    model = RunningSum(6, 4)
    with primitives_only() as ran:
        greedy(model, torch.tensor([[1, 2], [3, 4]]), begin=BEGIN, end=END, max_length=4, pad=PAD)
    assert ran["topk"] > 0


def test_greedy_says_what_is_wrong() -> None:
    options = {"begin": BEGIN, "end": END, "max_length": 3}
    model, source = PrefixModel(4), torch.zeros(2, 3, dtype=torch.int64)
    for wrong, message in (
        ({"begin": -1}, "given begin=-1, expected at least 0"),
        ({"pad": END}, "given pad=1, which is end too"),
        ({"max_length": torch.tensor([1, -2])}, "given max_length=-2, expected at least 0"),
    ):
        with pytest.raises(ValueError, match=f"greedy: {message}"):
            greedy(model, source, **{**options, **wrong})
    with pytest.raises(ShapeError, match=r"greedy: given source \(2, 3\) and max_length \(3,\)"):
        greedy(model, source, **{**options, "max_length": torch.tensor([1, 2, 3])})
    with pytest.raises(ShapeError, match=r"greedy: given source \(\) and max_length \(\)"):
        greedy(model, torch.tensor(1), **options)
    model.step = lambda tokens, state: torch.zeros(1, 4)  # type: ignore[method-assign]
    with pytest.raises(ShapeError, match=r"gave logits \(1, 4\), expected \(2, V\)"):
        greedy(model, source, **options)
    model.step = lambda tokens, state: torch.zeros(2, 1, 4)  # type: ignore[method-assign]
    with pytest.raises(ShapeError, match=r"gave logits \(2, 1, 4\)"):
        greedy(model, source, **options)
    for numbers in ([math.nan, 0.1, 0.1, 0.1], [0.0, 0.0, 1.0, 0.0]):
        with pytest.raises(ValueError, match="greedy: the model's logits are NaN, or -inf for every token but pad"):
            greedy(TableModel({(): numbers}), source, **options, pad=PAD)
