"""BERT's heads: what is put on a MiniBERT for a task, each with its backward. Theory: docs/minibert/heads.md."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from ds_core import (
    GELU,
    ClassifierLoss,
    ClassifierOutput,
    Dropout,
    LayerNorm,
    Linear,
    Module,
    Sequential,
    accumulate,
    linear,
    linear_backward,
    parameter,
)
from ds_core.engine.composition import backward_through, trainable
from ds_core.training.pretrained_labels import Labels
from torch import Tensor

from ds_zoo.minibert.config import MiniBERTConfig
from ds_zoo.minibert.criterion import MaskedLMLoss, PreTrainingLoss, TokenClassificationLoss
from ds_zoo.minibert.model import MiniBERT, initialise
from ds_zoo.minibert.outputs import BertOutput, MaskedLMOutput, PreTrainingOutput, TokenClassifierOutput

# B = batch, T = time, E = embed_dim, V = vocab_size, K = num_labels


class BertWithHead(Module):
    """A `MiniBERT`, `.bert`, and a head; what the heads have in common.

    Attributes:
        architecture: transformers' name for it.
        pooler: whether the head needs the vector of the whole text.
    """

    architecture: ClassVar[str]
    pooler: ClassVar[bool]

    def __init__(self, config: MiniBERTConfig, **options: Any) -> None:
        self.bert = MiniBERT(config, pooler=self.pooler, **options)

    @property
    def config(self) -> MiniBERTConfig:
        return self.bert.config

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Any:
        """`MiniBERT.from_pretrained` with this architecture: what the folder has no weights for is drawn anew."""
        return MiniBERT.from_pretrained(folder, **{"architecture": cls.architecture, **options})

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers reads them.

        Raises:
            WriteError: the folder cannot be written.
        """
        from ds_zoo.minibert.pretrained import save_bert

        save_bert(folder, self, self.architecture)

    def extra_repr(self) -> str:
        return self.architecture


class _Predicting(BertWithHead):
    """The head of masked language modelling: z = norm(gelu(dense(h))) W^T + b, W being the embedding of the tokens."""

    def __init__(
        self,
        config: MiniBERTConfig,
        *,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(config, implementation=implementation, generator=generator, **options)
        self.transform = Sequential(
            {
                "dense": Linear(config.embed_dim, config.embed_dim, generator=generator, **options),
                "activation": GELU(),
                "norm": LayerNorm(config.embed_dim, config.epsilon, **options),
            }
        )
        self.bias = parameter(torch.zeros(config.vocab_size, **options))
        initialise(self.transform, config, generator)

    def _predict(self, hidden: Tensor) -> Tensor:
        """hidden (B, T, E) -> logits (B, T, V)."""
        weight = self.bert.embeddings.tokens.weight
        y = self.transform.forward(hidden)
        self.save(y, reads=[weight])
        return linear(y, weight, self.bias)  # z_btv = sum_e y_bte W_ve + b_v                                   (1)

    def _predict_backward(self, dlogits: Tensor | None) -> Tensor | None:
        """dlogits (B, T, V) -> dhidden (B, T, E); adds the decoder's part to the gradient of the embedding."""
        (y,) = self.saved()
        weight, below = self.bert.embeddings.tokens.weight, trainable(self.bert)
        dy: Tensor | None = None
        if dlogits is not None:
            needs = (below or trainable(self.transform), weight.requires_grad, self.bias.requires_grad)
            # dy_bte = sum_v dz_btv W_ve, dW_ve = sum_bt dz_btv y_bte, db_v = sum_bt dz_btv           (2), (3), (4)
            dy, dweight, dbias = linear_backward(dlogits, y, weight, needs)
            accumulate(weight, dweight)
            accumulate(self.bias, dbias)
        dhidden: Tensor | None = backward_through([self.transform], dy, input_gradient=below)
        return dhidden


class MiniBERTForMaskedLM(_Predicting):
    """Which token stands at each place: transformers' BertForMaskedLM. Arguments as of `MiniBERT`, without `pooler`."""

    architecture = "BertForMaskedLM"
    pooler = False

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> MaskedLMOutput:
        """Arguments as `MiniBERT.forward` -> logits (B, T, V)."""
        hidden = self.bert.forward(input_ids, attention_mask, token_type_ids, position_ids).last_hidden_state
        assert hidden is not None
        return MaskedLMOutput(self._predict(hidden))

    def backward(self, gradients: MaskedLMOutput | None, *, input_gradient: bool = True) -> None:
        """The gradients of the outputs; ids are whole numbers and get none."""
        dhidden = self._predict_backward(None if gradients is None else gradients.logits)
        self.bert.backward(BertOutput(dhidden))

    def criterion(self) -> MaskedLMLoss:
        """The loss of transformers: `criterion(output, labels=...)`."""
        return MaskedLMLoss()


class MiniBERTForPreTraining(_Predicting):
    """Both tasks that BERT was trained on: transformers' BertForPreTraining. Arguments as of `MiniBERTForMaskedLM`."""

    architecture = "BertForPreTraining"
    pooler = True

    def __init__(self, config: MiniBERTConfig, *, generator: torch.Generator | None = None, **options: Any) -> None:
        super().__init__(config, generator=generator, **options)
        device, dtype = options.get("device"), options.get("dtype")
        self.seq_relationship = Linear(config.embed_dim, 2, device=device, dtype=dtype, generator=generator)
        initialise(self.seq_relationship, config, generator)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> PreTrainingOutput:
        """Arguments as `MiniBERT.forward` -> prediction_logits (B, T, V), seq_relationship_logits (B, 2)."""
        body = self.bert.forward(input_ids, attention_mask, token_type_ids, position_ids)
        assert body.last_hidden_state is not None
        assert body.pooler_output is not None
        predictions = self._predict(body.last_hidden_state)
        return PreTrainingOutput(predictions, self.seq_relationship.forward(body.pooler_output))

    def backward(self, gradients: PreTrainingOutput | None, *, input_gradient: bool = True) -> None:
        """The gradients of the outputs; ids are whole numbers and get none."""
        gradients = PreTrainingOutput() if gradients is None else gradients
        related, below = gradients.seq_relationship_logits, trainable(self.bert)
        dpooled = backward_through([self.seq_relationship], related, input_gradient=below)
        dhidden = self._predict_backward(gradients.prediction_logits)
        self.bert.backward(BertOutput(dhidden, dpooled))

    def criterion(self) -> PreTrainingLoss:
        """The loss of transformers: `criterion(output, labels=..., next_sentence_label=...)`."""
        return PreTrainingLoss()


class _Classifying(BertWithHead):
    """Dropout and a linear layer on a vector of BERT's: z = classifier(dropout(x)).

    Args:
        num_labels: K, of which there are no `labels`.
        labels: the names of the classes, and which loss is theirs.
    """

    def __init__(
        self,
        config: MiniBERTConfig,
        num_labels: int = 2,
        *,
        labels: Labels | None = None,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(config, implementation=implementation, generator=generator, **options)
        self.labels = Labels.numbered(num_labels) if labels is None else labels
        rate = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = Dropout(rate)
        self.classifier = Linear(config.embed_dim, len(self.labels.names), generator=generator, **options)
        initialise(self.classifier, config, generator)

    def _classify(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier.forward(self.dropout.forward(x))  # z = (r * x) W_c^T + b_c            (5)
        return logits

    def _classify_backward(self, dlogits: Tensor | None) -> Tensor | None:
        # dx = r * (dz W_c)                                                                                     (6)
        dx: Tensor | None = backward_through(
            [self.dropout, self.classifier], dlogits, input_gradient=trainable(self.bert)
        )
        return dx


class MiniBERTForSequenceClassification(_Classifying):
    """The class of a whole text: transformers' BertForSequenceClassification."""

    architecture = "BertForSequenceClassification"
    pooler = True

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> ClassifierOutput:
        """Arguments as `MiniBERT.forward` -> logits (B, K)."""
        pooled = self.bert.forward(input_ids, attention_mask, token_type_ids, position_ids).pooler_output
        assert pooled is not None
        return ClassifierOutput(self._classify(pooled))

    def backward(self, gradients: ClassifierOutput | None, *, input_gradient: bool = True) -> None:
        """The gradients of the outputs; ids are whole numbers and get none."""
        dpooled = self._classify_backward(None if gradients is None else gradients.logits)
        self.bert.backward(BertOutput(pooler_output=dpooled))

    def criterion(self) -> ClassifierLoss:
        """The loss of transformers, by the labels' problem type: `criterion(output, labels=...)`."""
        return ClassifierLoss(len(self.labels.names), self.labels.problem_type)


class MiniBERTForTokenClassification(_Classifying):
    """The class of each token: transformers' BertForTokenClassification."""

    architecture = "BertForTokenClassification"
    pooler = False

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> TokenClassifierOutput:
        """Arguments as `MiniBERT.forward` -> logits (B, T, K)."""
        hidden = self.bert.forward(input_ids, attention_mask, token_type_ids, position_ids).last_hidden_state
        assert hidden is not None
        return TokenClassifierOutput(self._classify(hidden))

    def backward(self, gradients: TokenClassifierOutput | None, *, input_gradient: bool = True) -> None:
        """The gradients of the outputs; ids are whole numbers and get none."""
        dhidden = self._classify_backward(None if gradients is None else gradients.logits)
        self.bert.backward(BertOutput(dhidden))

    def criterion(self) -> TokenClassificationLoss:
        """The loss of transformers: `criterion(output, labels=...)`."""
        return TokenClassificationLoss()
