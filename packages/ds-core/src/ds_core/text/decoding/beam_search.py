"""Decoding with several hypotheses side by side. Theory: docs/beam_search.md."""

import math
from typing import Any, Literal, NamedTuple, overload

import torch
from einops import rearrange
from torch import Tensor

from ds_core.text.decoding.protocol import (
    StepwiseDecoder,
    check_tokens,
    max_lengths,
    no_continuation,
    reorder_state,
    searching,
    top_tokens,
)

# B = sentences, K = beam_size, M = next tokens looked at for each hypothesis, T = tokens so far

NEVER = float("-inf")


class Hypothesis(NamedTuple):
    """One output: tokens without `begin` and `end`, log P(tokens, `end`), and that divided by the length penalty.

    `finished` is False if it was cut off at its greatest length; its log-probability is then without `end`.
    """

    tokens: list[int]
    log_probability: float
    score: float
    finished: bool


def length_factor(length: int, alpha: float) -> float:
    """What a log-probability of `length` tokens, `end` counted, is divided by (Wu et al., 2016, equation 14)."""
    return float(((5 + length) / 6) ** alpha)  # lp = ((5 + |Y|) / 6)^alpha                                     (4)


class _Sentence:
    """The hypotheses kept of one sentence, at most K, the best first."""

    def __init__(self, index: int, limit: int, beam_size: int, alpha: float) -> None:
        self.index, self.limit, self.beam_size, self.alpha = index, limit, beam_size, alpha
        self.kept: list[Hypothesis] = []

    def keep(self, tokens: list[int], log_probability: float, finished: bool) -> None:
        """One that ends comes before all that are cut off; of equal ones, the first to come stays first."""
        score = log_probability / length_factor(len(tokens) + finished, self.alpha)  # s = log P / lp         (5)
        self.kept.append(Hypothesis(tokens, log_probability, score, finished))
        self.kept.sort(key=lambda hypothesis: (not hypothesis.finished, -hypothesis.score))
        del self.kept[self.beam_size :]

    def is_decided(self, length: int, best_running: float, wanted: int, early_stopping: bool) -> bool:
        """Whether no running hypothesis, `length` tokens long, can become one of the best `wanted`."""
        if best_running == NEVER or length == self.limit:
            return True
        if early_stopping and len(self.kept) == self.beam_size:
            return True
        if len(self.kept) < wanted:
            return False
        # s <= log P / max(lp(t + 1), lp(limit)), because log P only falls                                    (6)
        bound = best_running / max(length_factor(n, self.alpha) for n in (length + 1, self.limit))
        return self.kept[wanted - 1].score >= bound


@overload
def beam_search(
    model: StepwiseDecoder,
    source: Tensor,
    *,
    begin: int,
    end: int,
    max_length: int | Tensor,
    pad: int | None = None,
    beam_size: int = 4,
    length_penalty: float = 0.6,
    early_stopping: bool = False,
    return_all: Literal[False] = False,
) -> list[Hypothesis]: ...


@overload
def beam_search(
    model: StepwiseDecoder,
    source: Tensor,
    *,
    begin: int,
    end: int,
    max_length: int | Tensor,
    pad: int | None = None,
    beam_size: int = 4,
    length_penalty: float = 0.6,
    early_stopping: bool = False,
    return_all: Literal[True],
) -> list[list[Hypothesis]]: ...


def beam_search(
    model: StepwiseDecoder,
    source: Tensor,
    *,
    begin: int,
    end: int,
    max_length: int | Tensor,
    pad: int | None = None,
    beam_size: int = 4,
    length_penalty: float = 0.6,
    early_stopping: bool = False,
    return_all: bool = False,
) -> Any:
    """Follow the `beam_size` likeliest beginnings of each sentence, and return the output of the best score.

    Each step keeps the K likeliest of all continuations; those that end there are put aside, the others run on. A
    sentence is finished when no running hypothesis can become one that is returned. With `beam_size=1` it is
    `greedy`. The model is asked in evaluation mode, and nothing is recorded. Ties are broken by the index of the
    hypothesis, then by the number of the token, so that a search can be repeated.

    Args:
        model: see `protocol.StepwiseDecoder`.
        source: (B, ...), whatever `model.start` takes.
        begin: what the model is given first.
        end: the token after the last.
        max_length: the most tokens of a sentence, `end` counted: one number, or (B,). Vaswani et al. (2017) allow 50
            more than the source has.
        pad: a token that is never taken.
        beam_size: K.
        length_penalty: alpha of Wu et al. (2016): the score is log P / ((5 + |Y|) / 6)^alpha. 0: log P itself.
        early_stopping: finish a sentence as soon as K of its hypotheses have ended, although another might have
            become better.
        return_all: return all hypotheses kept for each sentence, K at most, the best first.

    Returns:
        A `Hypothesis` for each sentence, or a list of them. One that was cut off at `max_length` is returned only if
        fewer than asked for have ended.

    Raises:
        ShapeError: `max_length` is neither one integer nor (B,), or the model's logits are not (R, V).
        ValueError: a number outside its range, `pad` is `end`, or the logits are NaN.
    """
    check_tokens("beam_search", begin, end, pad)
    if beam_size < 1:
        raise ValueError(f"beam_search: given beam_size={beam_size}, expected at least 1")
    if not math.isfinite(length_penalty):
        raise ValueError(f"beam_search: given length_penalty={length_penalty}, expected a finite number")
    limits = max_lengths("beam_search", source, max_length)
    sentences = [_Sentence(index, limit, beam_size, length_penalty) for index, limit in enumerate(limits)]
    for sentence in sentences:
        if sentence.limit == 0:
            sentence.keep([], 0.0, False)
    running = [sentence for sentence in sentences if sentence.limit > 0]
    if running:
        with searching(model):
            _search(model, source, running, begin, end, pad, beam_size if return_all else 1, early_stopping)
    if return_all:
        return [sentence.kept for sentence in sentences]
    return [sentence.kept[0] for sentence in sentences]


def _search(
    model: StepwiseDecoder,
    source: Tensor,
    running: list[_Sentence],
    begin: int,
    end: int,
    pad: int | None,
    wanted: int,
    early_stopping: bool,
) -> None:
    """Fill `kept` of the sentences."""
    width, device = running[0].beam_size, source.device
    state = model.start(source[[sentence.index for sentence in running]], width)
    tokens = torch.full((len(running) * width,), begin, device=device)
    prefixes = torch.empty(len(running), width, 0, dtype=torch.int64, device=device)  # (B, K, T)
    # In float64: rounded to float32 the sum of a long sentence would make equal what the next token tells apart.
    totals = torch.full((len(running), width), NEVER, dtype=torch.float64, device=device)
    totals[:, 0] = 0  # a single beginning, or all K hypotheses would be the same
    while True:
        values, nexts = top_tokens("beam_search", model.step(tokens, state), len(tokens), width, end, pad)
        totals, parents, chosen = _best(totals, values, nexts)
        prefixes = torch.cat(
            [prefixes.gather(1, parents.unsqueeze(2).expand(-1, -1, prefixes.shape[2])), chosen.unsqueeze(2)], 2
        )
        undecided = _settle(running, prefixes, totals, end, wanted, early_stopping)
        if not undecided:
            return
        running = [running[row] for row in undecided]
        kept = torch.tensor(undecided, device=device)
        reorder_state(model, state, (kept.unsqueeze(1) * width + parents[kept]).flatten(), len(tokens))
        tokens, prefixes = chosen[kept].flatten(), prefixes[kept]
        totals = totals[kept].masked_fill(chosen[kept] == end, NEVER)


def _best(totals: Tensor, values: Tensor, nexts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """totals (B, K), values, nexts (B K, M) -> totals, parents (0 ... K - 1) and tokens of the K best, (B, K) each.

    The K best of all are among the K best of each hypothesis, because the continuations of one share its total.
    """
    width, each = totals.shape[1], values.shape[1]
    values = rearrange(values, "(b k) m -> b k m", k=width)
    # log P(y_1 ... y_t) = log P(y_1 ... y_t-1) + log p(y_t | y_1 ... y_t-1)                                  (2)
    sums = torch.where(totals.unsqueeze(2) == NEVER, NEVER, totals.unsqueeze(2) + values)
    if bool(sums.isnan().any()):
        raise no_continuation("beam_search")
    ordered, indices = rearrange(sums, "b k m -> b (k m)").sort(dim=1, descending=True, stable=True)
    indices = indices[:, :width]
    chosen = rearrange(nexts, "(b k) m -> b (k m)", k=width).gather(1, indices)
    return ordered[:, :width], indices // each, chosen


def _settle(
    running: list[_Sentence], prefixes: Tensor, totals: Tensor, end: int, wanted: int, early_stopping: bool
) -> list[int]:
    """Put aside what has ended or was cut off; returns the rows of the sentences that are still undecided."""
    undecided, length = [], prefixes.shape[2]
    last, sums = prefixes[:, :, -1].tolist(), totals.tolist()
    for row, sentence in enumerate(running):
        best_running = NEVER
        for k, (token, total) in enumerate(zip(last[row], sums[row], strict=True)):
            if total == NEVER:
                continue
            if token == end:
                sentence.keep(prefixes[row, k, :-1].tolist(), total, True)
            elif length == sentence.limit:
                sentence.keep(prefixes[row, k].tolist(), total, False)
            else:
                best_running = max(best_running, total)
        if not sentence.is_decided(length, best_running, wanted, early_stopping):
            undecided.append(row)
        elif not sentence.kept:
            raise no_continuation("beam_search")
    return undecided
