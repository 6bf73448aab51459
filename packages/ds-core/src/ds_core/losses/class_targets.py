"""What losses whose targets are classes ask of them, and what they say where it is not so."""

import torch
from torch import Tensor

from ds_core.errors import ShapeError


def check_classes(loss: object, target: Tensor, classes: int, ignore_index: int | None = None) -> None:
    """Raise `IndexError` where a target is neither 0 ... classes - 1 nor `ignore_index`.

    On an accelerator looking would wait for it; the kernel that gathers asserts the same there.
    """
    if target.numel() == 0 or target.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if int(target.amin()) >= 0 and int(target.amax()) < classes:
        return
    outside = (target < 0) | (target >= classes)
    wrong = target[outside if ignore_index is None else outside & (target != ignore_index)]
    if wrong.numel() > 0:
        ignored = "" if ignore_index is None else f" or ignore_index {ignore_index}"
        raise IndexError(f"{loss!r}: given the target {int(wrong[0])}, expected 0 ... {classes - 1}{ignored}")


def check_class_weight(loss: object, weight: Tensor | None, x: Tensor, dim: int) -> None:
    """Raise `ShapeError` unless there is one weight for each class of x, which dimension `dim` counts."""
    if weight is not None and weight.shape != (x.shape[dim],):
        raise ShapeError(
            f"{loss!r}: weight of shape {tuple(weight.shape)}, expected ({x.shape[dim]},), "
            f"one for each class of the input {tuple(x.shape)}"
        )
