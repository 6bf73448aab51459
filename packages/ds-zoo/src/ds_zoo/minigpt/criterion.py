"""The loss of a causal language model, as transformers computes it. Theory: docs/minigpt/criterion.md."""

import torch
from ds_core import Module, ShapeError, TokenCrossEntropy
from torch import Tensor

# B = batch, T = time, V = vocab_size


class CausalLanguageLoss(Module):
    """The mean of -log softmax(logits_bt)[labels_b,t+1] over the labels that are not `ignore_index`.

    transformers' ForCausalLMLoss: `labels` are the tokens themselves, the shift happens in here. To train on blocks
    whose targets are shifted already, `TokenCrossEntropy` is all that is needed.

    Args:
        ignore_index: labels of this value are left out, padding for instance.

    Raises:
        ShapeError: from `forward`, if logits are not (B, T, V) with labels (B, T).
    """

    def __init__(self, ignore_index: int = -100) -> None:
        self.ignore_index = ignore_index
        self.cross_entropy = TokenCrossEntropy(ignore_index)

    def denominator(self, labels: Tensor) -> Tensor | None:
        """How many labels count, a tensor () of float64."""
        return self.cross_entropy.denominator(self._shifted(labels))

    def forward(self, logits: Tensor, labels: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """logits (B, T, V), labels (B, T) int64 -> loss ().

        `denominator`, if this is a part of a larger batch, is that of the whole.
        """
        if logits.dim() != 3 or logits.shape[:-1] != labels.shape:
            raise ShapeError(
                f"CausalLanguageLoss: given logits {tuple(logits.shape)} and labels {tuple(labels.shape)}, expected "
                "(B, T, V) and (B, T)"
            )
        return self.cross_entropy.forward(logits, self._shifted(labels), denominator=denominator)  # (1)

    def backward(self, grad: Tensor | None = None) -> Tensor:
        """-> dlogits (B, T, V), zero for each row's last token, which predicts nothing."""
        return self.cross_entropy.backward(grad)  # (2)

    def _shifted(self, labels: Tensor) -> Tensor:
        """(B, T) -> (B, T): the label of the token after, and none after the last."""
        none = torch.full_like(labels[:, :1], self.ignore_index)
        return torch.cat([labels[:, 1:], none], 1)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}"
