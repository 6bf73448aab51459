"""Half-precision numbers are stored, not calculated with: their sums and exponentials are taken in float32."""

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """`x` in float32 if it is bfloat16 or float16, else `x` itself.

    bfloat16 keeps 8 significant bits: a sum of 256 ones and one more stays 256. As torch.nn
    does, layers that sum or exponentiate calculate in float32 and round their results once.
    """
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
