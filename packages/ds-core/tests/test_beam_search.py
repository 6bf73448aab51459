"""Beam search against every output there is, against greedy decoding, and by hand."""

import math

import pytest
import torch
from ds_core import primitives_only, record
from ds_core.text.decoding.beam_search import Hypothesis, beam_search, length_factor
from ds_core.text.decoding.greedy import greedy
from hypothesis import given, settings
from hypothesis import strategies as st
from prefix_models import PrefixModel, RunningSum, TableModel, every_output, index_by_index

BEGIN, END, PAD = 0, 1, 2


def sources(count: int, length: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 50, (count, length), generator=torch.Generator().manual_seed(seed))


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [(one.tokens, one.finished) for one in found] == [(one.tokens, one.finished) for one in expected]
    for name in ("log_probability", "score"):
        numbers = [getattr(one, name) for one in found]
        assert numbers == pytest.approx([getattr(one, name) for one in expected], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 3.0, -0.8])
@pytest.mark.parametrize("pad", [None, PAD])
def test_a_beam_as_wide_as_all_outputs_finds_the_best_ones(alpha: float, pad: int | None) -> None:
    model, limit = PrefixModel(4), 4
    source = sources(6)
    options = {"begin": BEGIN, "end": END, "max_length": limit, "pad": pad, "beam_size": 4**limit}
    every = beam_search(model, source, length_penalty=alpha, return_all=True, **options)
    best = beam_search(model, source, length_penalty=alpha, **options)
    lengths = set()
    for row, found, first in zip(source.tolist(), every, best, strict=True):
        expected = every_output(model, tuple(row), BEGIN, END, limit, alpha, pad)
        assert_same(found, expected)
        assert_same([first], expected[:1])
        lengths.add(len(first.tokens))
    assert len(lengths) > 1 or alpha == -0.8


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0, -1.0])
@pytest.mark.parametrize("beam_size", [1, 2, 3, 5])
def test_stopping_early_changes_nothing(alpha: float, beam_size: int) -> None:
    """A search that stops at its bound finds the same best output as one for all K, and as one that never stops."""
    best, every = PrefixModel(6, seed=3), PrefixModel(6, seed=3)
    options = {"begin": BEGIN, "end": END, "max_length": 9, "beam_size": beam_size, "length_penalty": alpha}
    source = sources(20)
    first = beam_search(best, source, **options)
    all_of_them = beam_search(every, source, return_all=True, **options)
    assert_same(first, [kept[0] for kept in all_of_them])
    never = index_by_index(PrefixModel(6, seed=3), source, BEGIN, END, 9, beam_size, alpha)
    for ours, expected in zip(all_of_them, never, strict=True):
        assert_same(ours, expected)
    if beam_size > 1:
        assert sum(best.asked) < sum(every.asked)


@given(
    vocabulary=st.integers(2, 6),
    batch=st.integers(0, 3),
    length=st.integers(0, 3),
    beam_size=st.integers(1, 5),
    limit=st.integers(1, 6),
    alpha=st.sampled_from([0.0, 0.6, 1.5, -0.5]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_a_narrow_beam_is_the_one_written_index_by_index(
    vocabulary: int, batch: int, length: int, beam_size: int, limit: int, alpha: float, seed: int
) -> None:
    model, source = PrefixModel(vocabulary, seed), sources(batch, length, seed)
    options = {"begin": BEGIN, "end": END, "max_length": limit, "beam_size": beam_size, "length_penalty": alpha}
    found = beam_search(model, source, return_all=True, **options)
    for ours, expected in zip(found, index_by_index(model, source, BEGIN, END, limit, beam_size, alpha), strict=True):
        assert_same(ours, expected)


@given(
    batch=st.integers(0, 4),
    beam_size=st.integers(1, 4),
    limits=st.lists(st.integers(0, 6), min_size=4, max_size=4),
    return_all=st.booleans(),
    early_stopping=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_a_batch_is_its_sentences_one_by_one(
    batch: int, beam_size: int, limits: list[int], return_all: bool, early_stopping: bool, seed: int
) -> None:
    model, source = PrefixModel(5, seed), sources(batch, seed=seed)
    options = {"begin": BEGIN, "end": END, "beam_size": beam_size}
    options |= {"return_all": return_all, "early_stopping": early_stopping}
    together = beam_search(model, source, max_length=torch.tensor(limits[:batch], dtype=torch.int32), **options)
    alone = [beam_search(model, source[i : i + 1], max_length=limits[i], **options)[0] for i in range(batch)]
    if return_all:
        together, alone = [[one for kept in found for one in kept] for found in (together, alone)]
    assert_same(together, alone)


@pytest.mark.parametrize("alike", [0.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_one_hypothesis_is_greedy_decoding(alike: float, dtype: torch.dtype) -> None:
    """Also if many tokens are equally likely."""

    class Rounded(PrefixModel):
        def step(self, tokens: torch.Tensor, state: list) -> torch.Tensor:
            return super().step(tokens, state).to(dtype)

    model, source = Rounded(7, alike=alike), sources(30)
    found = beam_search(model, source, begin=BEGIN, end=END, max_length=12, beam_size=1)
    assert [one.tokens for one in found] == greedy(model, source, begin=BEGIN, end=END, max_length=12)
    assert {one.finished for one in found} == {True, False}


def test_ties_are_broken_by_index() -> None:
    """All outputs of a length are equally likely: the first hypotheses and the smallest numbers are taken."""
    model = TableModel({(): [0.25] * 4, **{(i,): [0.25] * 4 for i in range(4)}})
    options = {"begin": BEGIN, "end": END, "max_length": 2, "beam_size": 3, "length_penalty": 0.0, "return_all": True}
    (found,) = beam_search(model, sources(1), **options)
    # step 1 keeps 0, end and 2; step 2 continues 0 first: (0, 0), (0, end), (0, 2)
    assert [(one.tokens, one.finished) for one in found] == [([], True), ([0], True), ([0, 0], False)]
    assert found[1].score == pytest.approx(2 * math.log(0.25))


@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_state_follows_its_rows(beam_size: int) -> None:
    """A model with a buffer that is changed in place gives what the same sums give when they are made anew."""

    class Anew(RunningSum):
        def start(self, source: torch.Tensor, width: int) -> list:
            return [(row, []) for row in source.unbind() for _ in range(width)]

        def step(self, tokens: torch.Tensor, state: list) -> torch.Tensor:
            rows = []
            for (source, seen), token in zip(state, tokens.tolist(), strict=True):
                seen.append(token)
                total = self.embedding[source].sum(0)
                for earlier in seen:
                    total = 0.7 * total + self.embedding[earlier]
                rows.append(total)
            return torch.stack(rows).sin() @ self.projection

        def select(self, state: list, rows: torch.Tensor) -> None:
            state[:] = [(state[row][0], list(state[row][1])) for row in rows.tolist()]

    source = torch.randint(0, 6, (7, 3), generator=torch.Generator().manual_seed(1))
    options = {"begin": BEGIN, "end": END, "max_length": 8, "beam_size": beam_size, "return_all": True}
    model = RunningSum(6, 4)
    with record() as trace:  # a search inside a training step leaves nothing in it
        found = beam_search(model, source, **options)
        assert len(trace) == 0
    for ours, expected in zip(found, beam_search(Anew(6, 4), source, **options), strict=True):
        assert_same(ours, expected)
    assert model.training
    assert len({one.finished for kept in found for one in kept}) == 2


def test_only_primitive_operations_run() -> None:
    source = torch.randint(0, 6, (3, 3))
    for alike in (0.0, 1.0):
        model = PrefixModel(6, alike=alike)
        rows = torch.stack([model.logits((i,), ()) for i in range(12)])
        model.step = lambda tokens, state, rows=rows: rows[: len(tokens)]  # type: ignore[method-assign]
        model.select = lambda state, rows: None  # type: ignore[method-assign]
        with primitives_only() as ran:
            beam_search(model, source, begin=BEGIN, end=END, max_length=4, pad=PAD, beam_size=4)
        assert ran["topk"] > 0


A, B = 2, 3  # the two words of the page


def test_worked_example() -> None:
    """docs/beam_search.md: when greedy decoding fails, and what the length penalty changes."""
    options = {"begin": BEGIN, "end": END, "max_length": 3, "length_penalty": 0.0}
    table = {(): [0, 0.1, 0.5, 0.4], (A,): [0, 0.4, 0.3, 0.3], (B,): [0, 0.9, 0.05, 0.05]}
    table |= {(first, second): [0, 1.0, 0, 0] for first in (A, B) for second in (A, B)}
    model = TableModel(table)
    assert greedy(model, sources(1), begin=BEGIN, end=END, max_length=3) == [[A]]
    (found,) = beam_search(model, sources(1), beam_size=2, return_all=True, **options)
    assert [one.tokens for one in found] == [[B], [A]]
    assert pytest.approx([0.20, 0.36], abs=1e-12) == [0.5 * 0.4, 0.4 * 0.9]
    assert [one.log_probability for one in found] == pytest.approx([-1.0217, -1.6094], abs=5e-5)
    assert [math.log(p) for p in (0.5, 0.4)] == pytest.approx([-0.6931, -0.9163], abs=5e-5)

    table = {(): [0, 0, 0.3, 0.7], (A,): [0, 1.0, 0, 0], (B,) * 4: [0, 0.8, 0.2, 0], (B,) * 4 + (A,): [0, 1.0, 0, 0]}
    table |= {(B,) * n: [0, 0, 0.2, 0.8] for n in (1, 2, 3)}
    table |= {(B,) * n + (A,): [0, 1.0, 0, 0] for n in (1, 2, 3)}
    (short,) = beam_search(TableModel(table), sources(1), **{**options, "max_length": 20})
    (long,) = beam_search(TableModel(table), sources(1), **{**options, "max_length": 20, "length_penalty": 0.6})
    assert [short.tokens, long.tokens] == [[A], [B] * 4]
    assert [math.exp(one.log_probability) for one in (short, long)] == pytest.approx([0.3, 0.2867], abs=5e-5)
    assert [one.log_probability for one in (short, long)] == pytest.approx([-1.2040, -1.2492], abs=5e-5)
    assert [length_factor(n, 0.6) for n in (2, 5, 20)] == pytest.approx([1.0969, 1.3587, 2.3544], abs=5e-5)
    assert short.log_probability / length_factor(2, 0.6) == pytest.approx(-1.0976, abs=5e-5)
    assert long.score == pytest.approx(-0.9195, abs=5e-5)
    assert [number / length_factor(20, 0.6) for number in (-2.0, -2.5)] == pytest.approx([-0.8495, -1.0619], abs=5e-5)


def test_a_hypothesis_that_can_only_draw_level_is_not_waited_for() -> None:
    model = TableModel({(): [0.0, 0.5, 0.5, 0.0]})
    options = {"begin": BEGIN, "end": END, "max_length": 3, "beam_size": 2, "length_penalty": 0.0}
    assert beam_search(model, sources(1), **options)[0].tokens == []
    assert len(model.asked) == 1


def test_rows_without_a_hypothesis_may_be_nan() -> None:
    """Fewer than K beginnings are possible: the other rows carry what the model was never meant to be asked."""
    table = {(): [0.0, 0.3, 0.7, 0.0], (A,): [0.0, 1.0, 0.0, 0.0], (0,): [0.0] * 4, (B,): [0.0] * 4, (1,): [0.0] * 4}
    options = {"begin": BEGIN, "end": END, "max_length": 3, "beam_size": 4, "return_all": True}
    (found,) = beam_search(TableModel(table), sources(1), **options)
    assert [one.tokens for one in found] == [[A], []]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_long_sums_lose_no_digits(dtype: torch.dtype) -> None:
    model = PrefixModel(4)
    model.logits = lambda source, prefix: torch.zeros(4, dtype=dtype)  # type: ignore[method-assign]
    options = {"begin": BEGIN, "end": END, "max_length": 60, "beam_size": 1}
    (found,) = beam_search(model, sources(1), **options)
    assert found.log_probability == 60 * float(torch.log_softmax(torch.zeros(4), 0)[0])


def test_no_step_is_taken_once_the_best_is_known() -> None:
    """The end is all but certain at once, and what runs on can't catch up; a strong penalty lets it try."""
    table = {(): [0.0, 0.9, 0.05, 0.05]}
    table |= {body: [0.0, 0.8, 0.1, 0.1] for body in ((A,), (B,), (A, A), (A, B), (B, A), (B, B))}
    for alpha, steps in ((0.0, 1), (0.6, 1), (-1.0, 1), (16.0, 3)):
        model = TableModel(table)
        options = {"begin": BEGIN, "end": END, "max_length": 3, "beam_size": 3, "length_penalty": alpha}
        beam_search(model, sources(1), **options)
        assert len(model.asked) == steps
        model.asked.clear()
        beam_search(model, sources(1), **options, early_stopping=True)
        assert len(model.asked) == min(steps, 2)  # 3 have ended after 2 steps


@pytest.mark.parametrize("return_all", [False, True])
def test_lengths_of_none_and_one(return_all: bool) -> None:
    model = TableModel({(): [0.1, 0.4, 0.0, 0.5]})
    options = {"begin": BEGIN, "end": END, "beam_size": 3, "return_all": return_all}
    assert beam_search(model, sources(0), max_length=3, **options) == []
    nothing = Hypothesis([], 0.0, 0.0, False)
    assert beam_search(model, sources(2), max_length=0, **options) == [[nothing] if return_all else nothing] * 2
    assert model.asked == []  # nothing of this was asked of the model
    (found,) = beam_search(model, sources(1), max_length=1, **options)
    kept = found if return_all else [found]
    expected = [([], True), ([B], False), ([BEGIN], False)]  # one that ends comes before likelier ones that do not
    assert [(one.tokens, one.finished) for one in kept] == expected[: len(kept)]
    assert kept[0].score == pytest.approx(math.log(0.4))


def test_sentences_that_are_done_cost_nothing_more() -> None:
    model, source = PrefixModel(5, seed=2), sources(12)
    options = {"begin": BEGIN, "end": END, "beam_size": 2}
    found = beam_search(model, source, max_length=torch.arange(12), **options)
    alone = [beam_search(PrefixModel(5, seed=2), source[i : i + 1], max_length=i, **options)[0] for i in range(12)]
    assert_same(found, alone)
    assert model.asked == sorted(model.asked, reverse=True)
    assert len(model.asked) <= 11
    assert model.asked[0] == 2 * 11
    assert model.asked[-1] <= 4


def test_beam_search_says_what_is_wrong() -> None:
    options = {"begin": BEGIN, "end": END, "max_length": 3}
    model, source = PrefixModel(4), sources(2)
    for wrong, message in (
        ({"beam_size": 0}, "given beam_size=0, expected at least 1"),
        ({"length_penalty": math.inf}, "given length_penalty=inf, expected a finite number"),
        ({"length_penalty": math.nan}, "given length_penalty=nan"),
        ({"end": -1}, "given end=-1, expected at least 0"),
        ({"pad": END}, "given pad=1, which is end too"),
        ({"max_length": -1}, "given max_length=-1, expected at least 0"),
        ({"max_length": torch.tensor([3])}, r"source \(2, 2\) and max_length \(1,\) of torch.int64"),
        ({"max_length": 2.5}, r"max_length \(\) of torch.float32"),
        ({"end": 4}, r"logits \(8, 4\), expected \(8, V\) with V at least 5, for end=4 and pad=None"),
        ({"pad": 6}, "V at least 7, for end=1 and pad=6"),
    ):
        with pytest.raises(ValueError, match=f"beam_search: .*{message}"):
            beam_search(model, source, **{**options, **wrong})
    for numbers in ([math.nan, 0.1, 0.1, 0.1], [0.0, 0.0, 1.0, 0.0]):
        with pytest.raises(ValueError, match="beam_search: the model's logits are NaN, or -inf for every"):
            beam_search(TableModel({(): numbers}), source, **options, pad=2)
