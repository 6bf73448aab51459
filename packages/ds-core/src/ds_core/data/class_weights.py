"""Weights of classes against their frequency, for the `weight` of a loss."""

import torch
from torch import Tensor


def class_weights(labels: Tensor, num_classes: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """labels (N,) of whole numbers -> (C,): n / (C n_c), so that every class counts as much in all.

    scikit-learn's `compute_class_weight("balanced")`, after King and Zeng, "Logistic regression in rare events data",
    2001.

    Args:
        num_classes: C; None: one more than the largest label.
        dtype: of the weights; None: the default dtype.

    Raises:
        ValueError: labels that are no whole numbers of 0 to C - 1, or a class without any.
    """
    if labels.dim() != 1 or labels.numel() == 0 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"class_weights: given labels of shape {tuple(labels.shape)} and dtype {labels.dtype}, "
            "expected (N,) whole numbers, at least one"
        )
    least, largest = int(labels.min()), int(labels.max())
    count = largest + 1 if num_classes is None else num_classes
    if least < 0 or largest >= count:
        raise ValueError(f"class_weights: given labels from {least} to {largest}, expected 0 to {count - 1}")
    members = torch.bincount(labels, minlength=count)
    if not members.all():
        absent = (members == 0).nonzero().flatten().tolist()
        raise ValueError(f"class_weights: no label is of class {', '.join(map(str, absent))}, expected some of each")
    weights = labels.numel() / (count * members.double())
    return weights.to(torch.get_default_dtype() if dtype is None else dtype)
