"""Random blocks of a long text, as nanoGPT draws them (Karpathy, https://github.com/karpathy/nanoGPT)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ds_core.data.generators import keyed_generator

# B = batch, T = block size


class RandomBlocks:
    """Batch number `index` holds blocks from random positions in `tokens`, and for each token the one that follows it.

    The positions depend on (seed, index) alone: training that stops and resumes sees the batches it would have seen.

    Args:
        tokens: the text, (N,) int64.
        block_size: T, the tokens in a block.
        batch_size: B, the blocks in a batch.
        seed: any whole number, 0 or more.
        device: where the batches go.

    Raises:
        ValueError: there are fewer than T + 1 tokens.
    """

    def __init__(
        self,
        tokens: Tensor,
        block_size: int,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        if len(tokens) <= block_size:
            raise ValueError(f"RandomBlocks: {len(tokens)} tokens, expected at least block_size + 1 = {block_size + 1}")
        self.tokens = tokens
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.offsets = torch.arange(block_size + 1)

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        """-> tokens (B, T), the tokens that follow (B, T)."""
        generator = keyed_generator(self.seed, index)
        starts = torch.randint(len(self.tokens) - len(self.offsets) + 1, (self.batch_size, 1), generator=generator)
        blocks = self.tokens[starts + self.offsets]  # (B, T + 1)
        if self.device is not None:
            blocks = blocks.to(self.device)
        return blocks[:, :-1], blocks[:, 1:]


def consecutive_blocks(
    tokens: Tensor, block_size: int, batch_size: int, device: torch.device | str | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every token of the text but the first, predicted once: blocks side by side, the last of them shorter.

    Yields:
        tokens (B, T), the tokens that follow (B, T); B is at most `batch_size`, and 1 for the last, shorter block.
    """
    whole = (len(tokens) - 1) // block_size
    inputs = tokens[: whole * block_size].view(whole, block_size)
    targets = tokens[1 : whole * block_size + 1].view(whole, block_size)
    for start in range(0, whole, batch_size):
        yield inputs[start : start + batch_size].to(device), targets[start : start + batch_size].to(device)
    rest = tokens[whole * block_size :]
    if len(rest) > 1:
        yield rest[None, :-1].to(device), rest[None, 1:].to(device)
