"""Cross-entropy of predicted tokens, the mean over those that count. Theory: docs/token_cross_entropy.md."""

from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import describe
from ds_core.errors import ShapeError
from ds_core.losses.cross_entropy import CrossEntropyLoss

# B = batch, T = time, V = size of the vocabulary


class TokenCrossEntropy(Module):
    """loss = -1/M sum_bt log softmax(logits_bt)[target_bt], M = the targets that are not `ignore_index`.

    `CrossEntropyLoss` over the last dimension rather than the second.

    Args:
        ignore_index: targets of this value are left out (padding, say), of the sum and of M.
        label_smoothing: e, 0 ... 1: the share of the uniform distribution in each target
            (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015, section 7).

    Raises:
        ValueError: `label_smoothing` outside 0 ... 1.
        ShapeError: from `forward`, where logits are not (..., V) with targets (...).
    """

    def __init__(self, ignore_index: int = -100, *, label_smoothing: float = 0.0) -> None:
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.cross_entropy = CrossEntropyLoss(ignore_index=ignore_index, label_smoothing=label_smoothing)

    def denominator(self, target: Tensor) -> Tensor | None:
        """M, a tensor () of float64."""
        return self.cross_entropy.denominator(target.reshape(-1))

    def forward(self, logits: Tensor, target: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """logits (B, T, V), target (B, T) int64 -> loss ().

        `denominator`, where this is a part of a larger batch, is that of the whole.
        """
        if logits.dim() == 0 or logits.shape[:-1] != target.shape:
            raise ShapeError(
                f"{describe(self)}: given logits {tuple(logits.shape)} and targets {tuple(target.shape)}, expected "
                "(..., V) and (...)"
            )
        self.save(logits.shape)
        rows, classes = logits.reshape(-1, logits.shape[-1]), target.reshape(-1)
        return self.cross_entropy.forward(rows, classes, denominator=denominator)

    def backward(self, grad: Tensor | None = None) -> Tensor:
        """-> dlogits (B, T, V)."""
        drows: Tensor = self.cross_entropy.backward(grad)
        (shape,) = self.saved()
        return drows.view(shape)

    def extra_repr(self) -> str:
        smoothing = f", label_smoothing={self.label_smoothing}" if self.label_smoothing else ""
        return f"ignore_index={self.ignore_index}{smoothing}"
