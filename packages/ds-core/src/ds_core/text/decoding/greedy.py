"""Decoding by the likeliest token, step by step. Theory: docs/beam_search.md."""

import torch
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

# B = sentences, R = those that have not ended


def greedy(
    model: StepwiseDecoder, source: Tensor, *, begin: int, end: int, max_length: int | Tensor, pad: int | None = None
) -> list[list[int]]:
    """Take the likeliest token each time, until it is `end` or the sentence is as long as it may be.

    Of equally likely tokens, it takes the one with the smallest number. The model is asked in evaluation mode, nothing
    is recorded, and a sentence that has ended costs nothing more.

    Args:
        model: see `protocol.StepwiseDecoder`.
        source: (B, ...), whatever `model.start` takes.
        begin: what the model is given first.
        end: the token after the last.
        max_length: the most tokens of a sentence, `end` counted: one number, or (B,).
        pad: a token that is never taken.

    Returns:
        The tokens of each sentence, without `begin` and `end`.

    Raises:
        ShapeError: `max_length` is neither one integer nor (B,), or the model's logits are not (R, V).
        ValueError: a negative number, `pad` is `end`, or the logits are NaN.
    """
    check_tokens("greedy", begin, end, pad)
    limits = max_lengths("greedy", source, max_length)
    found: list[list[int]] = [[] for _ in limits]
    running = [sentence for sentence, limit in enumerate(limits) if limit > 0]  # of row 0, 1, ...
    if not running:
        return found
    with searching(model):
        state = model.start(source[running], 1)
        tokens = torch.full((len(running),), begin, device=source.device)
        while True:
            logits = model.step(tokens, state)
            values, best = top_tokens("greedy", logits, len(running), 1, end, pad)
            if not bool((values > float("-inf")).all()):
                raise no_continuation("greedy")
            rows = []
            for row, (sentence, token) in enumerate(zip(running, best[:, 0].tolist(), strict=True)):
                if token != end:
                    found[sentence].append(token)
                    if len(found[sentence]) < limits[sentence]:
                        rows.append(row)
            if not rows:
                return found
            kept = torch.tensor(rows, device=source.device)
            tokens = best[kept, 0]
            reorder_state(model, state, kept, len(running))
            running = [running[row] for row in rows]
