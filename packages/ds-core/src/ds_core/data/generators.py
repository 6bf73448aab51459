"""Random generators that depend on a key alone, so that it does not matter what was drawn before."""

import numpy as np
import torch


def keyed_generator(*key: int) -> torch.Generator:
    """A generator on the CPU whose numbers are a function of `key`, whole numbers of at least 0.

    NumPy's SeedSequence spreads the key over all bits, so that neighbouring keys have nothing in common.

    Raises:
        ValueError: a number below 0.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(seed)
