"""Cross-entropy of a language model: each position predicts the token that follows. Theory: docs/loss.md."""

from ds_core import Module, ShapeError
from ds_core.losses.cross_entropy import CrossEntropyLoss
from torch import Tensor

# B = batch, T = time, V = vocab_size


class TokenCrossEntropy(Module):
    """loss = -1/M sum_bt log softmax(logits_bt)[target_bt], M = the targets that are not `ignore_index`.

    `ds_core.CrossEntropyLoss` over the last dimension rather than the second.

    Args:
        ignore_index: targets of this value are left out (padding, say).

    Raises:
        ShapeError: where logits are not (..., V) with targets (...).
    """

    def __init__(self, ignore_index: int = -100) -> None:
        self.ignore_index = ignore_index
        self.cross_entropy = CrossEntropyLoss(ignore_index=ignore_index)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits (B, T, V), target (B, T) int64 -> loss ()."""
        if logits.dim() == 0 or logits.shape[:-1] != target.shape:
            raise ShapeError(
                f"{self!r}: given logits of shape {tuple(logits.shape)} and targets of shape {tuple(target.shape)}, "
                "expected (..., V) and (...)"
            )
        self.save(logits.shape)
        loss: Tensor = self.cross_entropy.forward(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))
        return loss

    def backward(self, grad: Tensor | None = None) -> Tensor:
        """-> dlogits (B, T, V)."""
        drows: Tensor = self.cross_entropy.backward(grad)
        (shape,) = self.saved()
        return drows.view(shape)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}"
