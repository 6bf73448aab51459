"""One token of each sequence, which stands for all of it. Theory: docs/miniclip/select_token.md."""

import torch
from ds_core import Module
from torch import Tensor

# B = batch, T = time, E = embed_dim


def select_token(x: Tensor, index: Tensor) -> Tensor:
    """x (B, T, E), index (B,) int64 -> y (B, E)."""
    return x.gather(1, _expanded(index, x.shape[2])).squeeze(1)  # y_be = x_(b, i_b, e)                      (1)


def select_token_backward(dy: Tensor, index: Tensor, length: int) -> Tensor:
    """dy (B, E), index (B,), length T -> dx (B, T, E)."""
    dx = torch.zeros(dy.shape[0], length, dy.shape[1], dtype=dy.dtype, device=dy.device)
    return dx.scatter_(1, _expanded(index, dy.shape[1]), dy.unsqueeze(1))  # dx_bte = dy_be [t = i_b]        (2)


def end_positions(input_ids: Tensor, end_token: int) -> Tensor:
    """input_ids (B, T) -> where each text ends, (B,): the position of the token that stands for it.

    The first `end_token` of each row, or position 0 if it has none. CLIP's first checkpoints say 2 where their end
    token is the last of the vocabulary, so 2 means: the largest number of the row, the first if there are several.
    """
    found = input_ids if end_token == 2 else (input_ids == end_token).to(torch.int32)
    return found.argmax(-1)


class SelectToken(Module):
    """y_b = x_(b, i_b): row i_b of the sequence b."""

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """x (B, T, E), index (B,) int64 -> y (B, E)."""
        self.save(index, x.shape[1])
        return select_token(x, index)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy (B, E) -> dx (B, T, E); the index is of whole numbers and gets no gradient."""
        index, length = self.saved()
        return None if dy is None else select_token_backward(dy, index, length)


def _expanded(index: Tensor, embed_dim: int) -> Tensor:
    return index.view(-1, 1, 1).expand(-1, 1, embed_dim)
