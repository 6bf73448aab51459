"""What masked language modelling is held against: the most frequent successor of the token on the left.

Theory: docs/minibert/masking.md.
"""

import torch
from torch import Tensor

# N = tokens of the text, V = vocab_size, B = batch, T = length


class BigramGuess:
    """Guesses a token from its left neighbour: whatever follows that one most often in the training text.

    A unigram backs it: if the neighbour never occurs in the training text with anything behind it, the guess is the
    most frequent token. The neighbour is the one that truly stands there, also if the model sees [MASK] there.

    Args:
        tokens: the training text, (N,) int64.
        vocab_size: V.
    """

    def __init__(self, tokens: Tensor, vocab_size: int) -> None:
        most_frequent = int(torch.bincount(tokens, minlength=vocab_size).argmax())
        # Each pair that occurs as one number, sorted, so that equal ones stand together
        ordered, _ = torch.sort(tokens[:-1] * vocab_size + tokens[1:])
        ends = torch.nonzero(torch.cat([ordered[1:] != ordered[:-1], torch.ones(1, dtype=torch.bool)])).squeeze(1)
        counts = ends - torch.cat([torch.full((1,), -1), ends[:-1]])
        left, right = ordered[ends] // vocab_size, ordered[ends] % vocab_size
        self.successor = torch.full((vocab_size,), most_frequent)
        # By rising counts, so that each neighbour's most frequent successor comes last; of several the first token
        order = torch.argsort(counts * vocab_size + (vocab_size - 1 - right))
        last = torch.zeros(vocab_size, dtype=torch.int64).scatter_reduce(
            0, left[order], torch.arange(1, len(order) + 1), "amax"
        )
        found = last > 0
        self.successor[found] = right[order][last[found] - 1]

    def __call__(self, tokens: Tensor) -> Tensor:
        """tokens (B, T), nothing masked -> for each place the guess from its left neighbour (B, T); the first column
        has none, and is a guess from the last."""
        return self.successor[tokens.roll(1, 1)]
