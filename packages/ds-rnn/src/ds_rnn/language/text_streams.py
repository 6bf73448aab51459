"""A text cut into streams that are read side by side, window after window. Theory: docs/text_streams.md."""

from collections.abc import Iterator

import torch
from torch import Tensor

# N = tokens of the text, B = streams, T = tokens of a window, W = windows of an epoch


class TextStreams:
    """Batch `index` holds the next T tokens of each of B streams, and for each token the one that follows it.

    The text is cut into B stretches of equal length; what is left over at its end, less than B T tokens, is skipped in
    an epoch. If a stretch has tokens left over, the first token changes from epoch to epoch, by at most that number. A
    batch depends on its index alone: training that stops and resumes sees the batches it would have seen.

    Args:
        tokens: the text, (N,) int64.
        window: T.
        streams: B.
        device: where the batches go.
        carry: whether batches say that a stream continues; without it each window is by itself.

    Raises:
        ValueError: there are fewer than B (T + 1) tokens.
    """

    def __init__(
        self,
        tokens: Tensor,
        window: int,
        streams: int,
        device: torch.device | str | None = None,
        *,
        carry: bool = True,
    ) -> None:
        if len(tokens) < streams * (window + 1):
            least = streams * (window + 1)
            raise ValueError(f"TextStreams: {len(tokens)} tokens, expected at least streams * (window + 1) = {least}")
        self.tokens, self.window, self.streams, self.device = tokens, window, streams, device
        self.carry = carry
        self.stretch = len(tokens) // streams
        self.steps_per_epoch = (self.stretch - 1) // window

    def batch(self, index: int) -> tuple[tuple[Tensor, Tensor] | Tensor, Tensor]:
        """-> (tokens (B, T), carry (B,)), the tokens that follow (B, T).

        `carry` is 0 in the first window of an epoch and 1 in the others; if nothing is carried, it is left out.
        """
        epoch, step = divmod(index, self.steps_per_epoch)
        spare = self.stretch - 1 - self.steps_per_epoch * self.window
        first = step * self.window + (epoch * 37 % (spare + 1))
        # window k of stretch b begins at token b S + k T + o                                               (1)
        starts = torch.arange(self.streams)[:, None] * self.stretch + first
        block = self.tokens[starts + torch.arange(self.window + 1)].to(self.device)
        if not self.carry:
            return block[:, :-1], block[:, 1:]
        return (block[:, :-1], torch.full((self.streams,), float(step > 0), device=self.device)), block[:, 1:]


def windows_of(
    tokens: Tensor, window: int, device: torch.device | str | None = None, *, streams: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """A text once, as `streams` equal stretches side by side: tokens (B, T), the tokens that follow (B, T).

    The last window is shorter, and what is left over at the end, less than B tokens, is skipped.
    """
    stretch = (len(tokens) - 1) // streams
    starts = torch.arange(streams)[:, None] * stretch
    for start in range(0, stretch, window):
        block = tokens[starts + torch.arange(start, min(start + window, stretch) + 1)].to(device)
        yield block[:, :-1], block[:, 1:]
