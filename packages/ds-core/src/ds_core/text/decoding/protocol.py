"""What greedy and beam search share: the model they ask, and its likeliest next tokens. Theory: docs/beam_search.md."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ds_core.activations.log_softmax import log_softmax
from ds_core.engine.trace import no_record
from ds_core.errors import ShapeError
from ds_core.speed.precision import widened
from ds_core.training.evaluation import evaluation_mode

# B = sentences, R = rows, hypotheses side by side, V = vocabulary, M = next tokens looked at


class StepwiseDecoder(Protocol):
    """A model that can be asked for the next token, step by step. Its state is its own affair: caches, mostly."""

    def start(self, source: Tensor, width: int) -> Any:
        """source (B, ...) -> a state of R = B * width rows; row b * width + k is hypothesis k of sentence b."""
        ...

    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """tokens (R,), the last of each row, `begin` at first -> logits (R, V) of the next; changes the state."""
        ...

    def select(self, state: Any, rows: Tensor) -> None:
        """Let row i continue what row `rows[i]` was; rows (R',), of the same sentence if R' = R.

        R' < R once sentences are finished: all their rows are missing, and the others close up.
        """
        ...


@contextmanager
def searching(model: Any) -> Iterator[None]:
    """Inside, nothing is recorded, and the model is in evaluation mode if it has modes."""
    with evaluation_mode(model) if hasattr(model, "modules") else no_record():
        yield


def check_tokens(caller: str, begin: int, end: int, pad: int | None) -> None:
    """Raise ValueError unless the special tokens are possible."""
    given = {"begin": begin, "end": end, **({} if pad is None else {"pad": pad})}
    for name, token in given.items():
        if token < 0:
            raise ValueError(f"{caller}: given {name}={token}, expected at least 0")
    if pad == end:
        raise ValueError(f"{caller}: given pad={pad}, which is end too, so that no sentence could end")


def max_lengths(caller: str, source: Tensor, max_length: int | Tensor) -> list[int]:
    """The most tokens of each sentence, B numbers.

    Raises:
        ShapeError: the source has no dimension, or `max_length` is neither one integer nor one for each sentence.
        ValueError: one is negative.
    """
    limits = torch.as_tensor(max_length)
    if source.dim() == 0 or limits.is_floating_point() or limits.shape not in ((), source.shape[:1]):
        raise ShapeError(
            f"{caller}: given source {tuple(source.shape)} and max_length {tuple(limits.shape)} of {limits.dtype}, "
            "expected a source (B, ...) and integers () or (B,)"
        )
    numbers: list[int] = limits.expand(len(source)).tolist()
    if min(numbers, default=0) < 0:
        raise ValueError(f"{caller}: given max_length={min(numbers)}, expected at least 0")
    return numbers


def top_tokens(caller: str, logits: Tensor, rows: int, count: int, end: int, pad: int | None) -> tuple[Tensor, Tensor]:
    """logits (R, V) -> log-probabilities and tokens (R, M) of the M = min(count, V) likeliest tokens, best first.

    Of equally likely tokens, the one with the smaller number comes first.

    Raises:
        ShapeError: the logits are not (R, V) with R = `rows` and V beyond `end` and `pad`.
    """
    least = 1 + max(end, -1 if pad is None else pad)
    if logits.dim() != 2 or len(logits) != rows or logits.shape[1] < least:
        raise ShapeError(
            f"{caller}: the model's step gave logits {tuple(logits.shape)}, expected ({rows}, V) with V at least "
            f"{least}, for end={end} and pad={pad}"
        )
    scores = log_softmax(widened(logits), 1)
    if pad is not None:
        scores[:, pad] = float("-inf")
    # One more than asked for shows whether others are as likely as the last: `topk` takes any of them.
    values, tokens = scores.topk(min(count + 1, scores.shape[1]), dim=1)
    if bool(((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > float("-inf"))).any()):
        values, tokens = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :count], tokens[:, :count]


def reorder_state(model: StepwiseDecoder, state: Any, rows: Tensor, count: int) -> None:
    """Replace the `count` rows of the state by those numbered `rows`, unless that changes nothing."""
    if not torch.equal(rows, torch.arange(count, device=rows.device)):
        model.select(state, rows)


def no_continuation(caller: str) -> ValueError:
    return ValueError(f"{caller}: the model's logits are NaN, or -inf for every token but pad: nothing can follow")
