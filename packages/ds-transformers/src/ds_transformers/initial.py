"""The initial values that Glorot and Bengio proposed (2010), as torch.nn.init draws them."""

import math

import torch
from torch import Tensor


def xavier_uniform_(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill weight (O, I) from the uniform distribution with variance 2 / (I + O) (their equation 16)."""
    outputs, inputs = weight.shape
    bound = math.sqrt(3.0) * math.sqrt(2.0 / (inputs + outputs))
    return weight.uniform_(-bound, bound, generator=generator)


def xavier_normal_(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill weight (1, 1, E) from the normal distribution, with E inputs and E outputs: variance 1 / E."""
    width = weight.shape[2]
    return weight.normal_(0, math.sqrt(2.0 / (width + width)), generator=generator)
