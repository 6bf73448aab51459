"""Large tensors cut into chunks that fit in a CPU's cache together with the results of the steps between.

Theory: docs/elementwise.md, docs/flat_buffers.md. Each caller states how large its chunks are, and why.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def chunks(tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """The tensors, all of one shape, cut alike into flat views of `size` elements each; the last may be shorter.

    Tensors of at most `size` elements come whole, in their own shape, and so do all if one of them is not contiguous.
    """
    if tensors[0].numel() <= size or not all(tensor.is_contiguous() for tensor in tensors):
        return [list(tensors)]
    return [list(parts) for parts in zip(*[torch.split(tensor.view(-1), size) for tensor in tensors], strict=True)]
