"""Cases for the plain pairs of attention: see test_plain.py."""

import math

import torch
from ds_rnn import plain_additive_scores, plain_weighted_mean

# name of the fast form -> its cases, each a tuple of arguments, or a tuple of arguments and a dict of named ones
CASES = {
    "weighted_mean": [],
    "weighted_mean_backward": [],
    "additive_scores": [],
    "additive_scores_backward": [],
}


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


for batch, queries, positions, size in [(2, 3, 4, 2), (1, 1, 1, 1), (3, 1, 5, 3), (0, 2, 3, 2), (2, 0, 3, 2)]:
    scores, memory, padding = draw(batch, queries, positions), draw(batch, positions, size), None
    scores[:, :, :1] *= 1000  # one weight is 1, or 0
    for hidden in ("nothing", "some", "all of the first"):
        if hidden != "nothing":
            padding = torch.rand(batch, positions) < 0.5
            padding[1:, 0] = False
            padding[:1] = hidden != "some"
        CASES["weighted_mean"].append((scores, memory, padding))
        _, p = plain_weighted_mean(scores, memory, padding)
        CASES["weighted_mean_backward"].append((draw(batch, queries, size), p, memory))

    query, keys, weight = draw(batch, queries, size), draw(batch, positions, size), draw(size)
    query[:1] *= 100  # tanh is 1 or -1
    CASES["additive_scores"].append((query, keys, weight))
    _, u = plain_additive_scores(query, keys, weight)
    for needs in [(True, True, True), (False, True, False), (True, False, True)]:
        CASES["additive_scores_backward"].append(((draw(batch, queries, positions), u, weight), {"needs": needs}))

# what hides, whatever stands there
CASES["weighted_mean"].append(
    (torch.tensor([[[math.inf, 1.0, 2.0]]]), draw(1, 3, 2), torch.tensor([[True, False, False]]))
)
