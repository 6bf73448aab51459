"""Tiny models for the tests of decoding, whose state must follow its rows."""

import itertools

import torch
from ds_core import Module
from ds_core.text.decoding.beam_search import Hypothesis, length_factor


class PrefixModel:
    """Logits of the next token by a hash of the source and of all tokens so far.

    `alike` rounds the logits to multiples of it, so that many are equal. `asked` counts the rows of each step,
    `moved` the calls of `select`.
    """

    def __init__(self, vocabulary: int, seed: int = 0, spread: float = 1.5, alike: float = 0.0) -> None:
        self.vocabulary, self.seed, self.spread, self.alike = vocabulary, seed, spread, alike
        self.asked: list[int] = []
        self.moved = 0

    def logits(self, source: tuple[int, ...], prefix: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, source, prefix)) % 2**40)
        drawn = self.spread * torch.randn(self.vocabulary, generator=generator, dtype=torch.float64)
        return (drawn / self.alike).round() * self.alike if self.alike else drawn

    def start(self, source: torch.Tensor, width: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        return [(tuple(row), ()) for row in source.tolist() for _ in range(width)]

    def step(self, tokens: torch.Tensor, state: list) -> torch.Tensor:
        assert tokens.dtype == torch.int64
        assert tokens.shape == (len(state),)
        self.asked.append(len(state))
        for row, token in enumerate(tokens.tolist()):
            source, prefix = state[row]
            state[row] = (source, (*prefix, token))
        return torch.stack([self.logits(*row) for row in state])

    def select(self, state: list, rows: torch.Tensor) -> None:
        self.moved += 1
        before = list(state)
        state[:] = [before[row] for row in rows.tolist()]
        if len(state) == len(before):
            assert [source for source, _ in state] == [source for source, _ in before]


class TableModel(PrefixModel):
    """Probabilities of the next token by the tokens so far, without `begin`; the same for every source.

    After tokens that are not in the table all are equally likely; only dropped hypotheses are asked about those.
    """

    def __init__(self, table: dict[tuple[int, ...], list[float]]) -> None:
        super().__init__(len(next(iter(table.values()))))
        self.table = table

    def logits(self, source: tuple[int, ...], prefix: tuple[int, ...]) -> torch.Tensor:
        row = self.table.get(prefix[1:], [1 / self.vocabulary] * self.vocabulary)
        return torch.tensor(row, dtype=torch.float64).log()


class RunningSum(Module):
    """Like a decoder with a cache: a buffer of a row is added to in place, and must be moved with its row."""

    def __init__(self, vocabulary: int, width: int) -> None:
        generator = torch.Generator().manual_seed(5)
        self.embedding = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64)
        self.projection = torch.randn(width, vocabulary, generator=generator, dtype=torch.float64)
        self.was_recording = False

    def start(self, source: torch.Tensor, width: int) -> dict[str, torch.Tensor]:
        assert not self.training
        assert not torch.is_grad_enabled()
        return {"sum": self.embedding[source].sum(1).repeat_interleave(width, 0)}

    def step(self, tokens: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
        state["sum"].mul_(0.7).add_(self.embedding[tokens])
        self.save(state["sum"])
        return state["sum"].sin() @ self.projection

    def select(self, state: dict[str, torch.Tensor], rows: torch.Tensor) -> None:
        state["sum"] = state["sum"][rows]


def every_output(
    model: PrefixModel, source: tuple[int, ...], begin: int, end: int, limit: int, alpha: float, pad: int | None = None
) -> list[Hypothesis]:
    """All outputs of one sentence, index by index: those that end first, each kind by score."""
    found = []
    tokens = [token for token in range(model.vocabulary) if token not in (end, pad)]
    for length in range(limit + 1):
        for body in itertools.product(tokens, repeat=length):
            finished = length < limit
            total = 0.0
            for t, token in enumerate((*body, end) if finished else body):
                logits = model.logits(source, (begin, *body[:t]))
                total += float(torch.log_softmax(logits, 0)[token])
            found.append(Hypothesis(list(body), total, total / length_factor(length + finished, alpha), finished))
    return sorted(found, key=lambda output: (not output.finished, -output.score))


def index_by_index(
    model: PrefixModel, source: torch.Tensor, begin: int, end: int, limit: int, beam_size: int, alpha: float
) -> list[list[Hypothesis]]:
    """The K best of a beam search that never stops before the limit."""
    found = []
    for row in source.tolist():
        beam, kept = [((), 0.0)], []
        for length in range(1, limit + 1):
            longer = [
                ((*body, token), total + float(number))
                for body, total in beam
                for token, number in enumerate(torch.log_softmax(model.logits(tuple(row), (begin, *body)), 0))
            ]
            longer = sorted(longer, key=lambda one: -one[1])[:beam_size]
            kept += [
                Hypothesis(list(body[:-1]), total, total / ((5 + length) / 6) ** alpha, True)
                for body, total in longer
                if body[-1] == end
            ]
            beam = [one for one in longer if one[0][-1] != end]
        kept.sort(key=lambda one: -one.score)
        kept += sorted(
            (Hypothesis(list(body), total, total / ((5 + limit) / 6) ** alpha, False) for body, total in beam),
            key=lambda one: -one.score,
        )
        found.append(kept[:beam_size])
    return found
