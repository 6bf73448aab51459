"""The losses that transformers computes for BERT's heads. Theory: docs/minibert/criterion.md."""

from typing import Any, Generic, TypeVar

from ds_core import CrossEntropyLoss, Module, ShapeError, TokenCrossEntropy
from torch import Tensor

from ds_zoo.minibert.outputs import MaskedLMOutput, PreTrainingOutput, TokenClassifierOutput

# B = batch, T = time, V = vocab_size, K = num_labels

OutputT = TypeVar("OutputT", MaskedLMOutput, TokenClassifierOutput)
PairOfLabels = tuple[Tensor, Tensor]


class _CrossEntropyOfLogits(Module, Generic[OutputT]):
    """L = -1/M sum_m log softmax(z_m)[y_m] over the M tokens whose label is not -100."""

    kind: type[Any]

    def __init__(self) -> None:
        self.cross_entropy = TokenCrossEntropy()

    def denominator(self, labels: Tensor) -> Tensor | None:
        """M, a tensor () of float64."""
        return self.cross_entropy.denominator(labels)

    def forward(self, output: OutputT, labels: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """An output with logits (B, T, C), labels (B, T) int64 -> a scalar.

        `denominator`, where this is a part of a larger batch, is that of the whole.
        """
        if output.logits is None:
            raise ShapeError(f"{type(self).__name__}: given an output without logits")
        return self.cross_entropy.forward(output.logits, labels, denominator=denominator)

    def backward(self, grad: Tensor | None = None) -> OutputT:
        """grad of the loss, None for 1 -> the gradients of the output."""
        found: OutputT = self.kind(self.cross_entropy.backward(grad))
        return found


class MaskedLMLoss(_CrossEntropyOfLogits[MaskedLMOutput]):
    """The mean cross-entropy of the tokens that were masked; all others have the label -100."""

    kind = MaskedLMOutput


class TokenClassificationLoss(_CrossEntropyOfLogits[TokenClassifierOutput]):
    """The mean cross-entropy of the classes of tokens; tokens with the label -100 are left out."""

    kind = TokenClassifierOutput


class PreTrainingLoss(Module):
    """L = masked_lm_loss + next_sentence_loss, each a mean of its own (Devlin et al., 2019, appendix A.2).

    Attributes:
        terms: after a call, the value of either by transformers' name.
    """

    def __init__(self) -> None:
        self.masked_lm = TokenCrossEntropy()
        self.next_sentence = CrossEntropyLoss()
        self.terms: dict[str, Tensor] = {}

    def denominator(self, labels: PairOfLabels) -> tuple[Tensor | None, Tensor | None]:
        """What either mean is divided by; `labels` is the pair that a Trainer has as target."""
        return self.masked_lm.denominator(labels[0]), self.next_sentence.denominator(labels[1].reshape(-1))

    def forward(
        self,
        output: PreTrainingOutput,
        labels: Tensor | PairOfLabels,
        next_sentence_label: Tensor | None = None,
        *,
        denominator: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> Tensor:
        """An output, labels (B, T) and next_sentence_label (B,), both int64 -> a scalar.

        Args:
            labels: the token at each place, -100 where none is asked for; or the pair of both kinds of labels, as a
                Trainer hands on its target.
            next_sentence_label: 0 where the second text follows the first, 1 where it does not.
            denominator: where this is a part of a larger batch, those of the whole.
        """
        if isinstance(labels, tuple):
            labels, next_sentence_label = labels
        predictions, related = output.prediction_logits, output.seq_relationship_logits
        if predictions is None or related is None or next_sentence_label is None:
            raise ShapeError(
                "PreTrainingLoss: expected an output with prediction_logits and seq_relationship_logits, labels, and "
                "next_sentence_label"
            )
        masked = self.masked_lm.forward(predictions, labels, denominator=denominator[0])
        following = self.next_sentence.forward(related, next_sentence_label.reshape(-1), denominator=denominator[1])
        self.terms = {"masked_lm_loss": masked.detach(), "next_sentence_loss": following.detach()}
        loss: Tensor = masked + following  # L = L_m + L_s                                                      (2)
        return loss

    def backward(self, grad: Tensor | None = None) -> PreTrainingOutput:
        """grad of the loss, None for 1 -> the gradients of the output."""
        # dL_s = dL_m = dL                                                                                      (3)
        drelated = self.next_sentence.backward(grad)
        return PreTrainingOutput(self.masked_lm.backward(grad), drelated)
