"""Class numbers as vectors with a single 1."""

import torch
from torch import Tensor


def one_hot(labels: Tensor, num_classes: int = -1, dtype: torch.dtype = torch.int64) -> Tensor:
    """labels (...) of whole numbers -> (..., C): 1 at the index of the label, 0 elsewhere.

    As `torch.nn.functional.one_hot`, which has no `dtype`.

    Args:
        num_classes: C; -1: one more than the largest label.

    Raises:
        ValueError: labels that are no whole numbers of 0 to C - 1, or none at all to take C from.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"one_hot: given labels of dtype {labels.dtype}, expected whole numbers")
    if num_classes < 1 and (num_classes != -1 or labels.numel() == 0):
        raise ValueError(f"one_hot: given num_classes={num_classes} and {labels.numel()} labels, expected at least 1")
    labels = labels.long()
    least, largest = (int(labels.min()), int(labels.max())) if labels.numel() else (0, 0)
    count = largest + 1 if num_classes == -1 else num_classes
    if least < 0 or largest >= count:
        raise ValueError(f"one_hot: given labels from {least} to {largest}, expected 0 to {count - 1}")
    result = torch.zeros(*labels.shape, count, dtype=dtype, device=labels.device)
    return result.scatter_(-1, labels.unsqueeze(-1), 1)
