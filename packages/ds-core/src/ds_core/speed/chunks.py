"""Large tensors cut into pieces, of which a CPU's cache holds what the next operation reads.

Theory: docs/elementwise.md, docs/flat_buffers.md. How large a piece is stands where it is used, with the reason.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def pieces(tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """The tensors, all of one shape, cut alike into flat views of `size` numbers each, the last ones maybe of fewer.

    They come whole, in their own shape, where they have no more than that, or where the numbers of one do not lie in
    index order.
    """
    if tensors[0].numel() <= size or not all(tensor.is_contiguous() for tensor in tensors):
        return [list(tensors)]
    return [list(parts) for parts in zip(*[torch.split(tensor.view(-1), size) for tensor in tensors], strict=True)]
