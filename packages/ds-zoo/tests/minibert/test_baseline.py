import torch
from ds_zoo.minibert import BigramGuess


def test_worked_example():
    """docs/minibert/masking.md."""
    guess = BigramGuess(torch.tensor([0, 1, 0, 1, 0, 2]), 3)
    assert guess(torch.tensor([[0, 0, 2]]))[0, 1:].tolist() == [1, 1]
    assert guess(torch.tensor([[2, 0]]))[0, 1].item() == 0


def test_like_counting():
    tokens = torch.randint(6, (500,), generator=torch.Generator().manual_seed(0))
    guess = BigramGuess(tokens, 8)
    counts = torch.zeros(8, 8)
    for left, right in zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True):
        counts[left, right] += 1
    for left in range(6):
        found = int(guess.successor[left])
        assert counts[left, found] == counts[left].max()
        assert found == int(torch.nonzero(counts[left] == counts[left].max())[0])  # of several the first
    most_frequent = int(torch.bincount(tokens).argmax())
    assert guess.successor[6:].tolist() == [most_frequent] * 2
