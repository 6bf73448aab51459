"""What a MiniBERT returns; with gradients in the fields, what its backward takes. Fields not set are zeros there."""

from dataclasses import dataclass

from torch import Tensor

# B = batch, T = time, E = embed_dim, V = vocab_size, K = num_labels


@dataclass
class BertOutput:
    """Of `MiniBERT`.

    Attributes:
        last_hidden_state: (B, T, E), a vector for each token.
        pooler_output: (B, E), one for each text; None without a pooler.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None


@dataclass
class MaskedLMOutput:
    """Of `MiniBERTForMaskedLM`.

    Attributes:
        logits: (B, T, V), which token stands at each place.
    """

    logits: Tensor | None = None


@dataclass
class PreTrainingOutput:
    """Of `MiniBERTForPreTraining`.

    Attributes:
        prediction_logits: (B, T, V), which token stands at each place.
        seq_relationship_logits: (B, 2): 0, the second text follows the first; 1, it comes from elsewhere.
    """

    prediction_logits: Tensor | None = None
    seq_relationship_logits: Tensor | None = None


@dataclass
class TokenClassifierOutput:
    """Of `MiniBERTForTokenClassification`.

    Attributes:
        logits: (B, T, K), the class of each token.
    """

    logits: Tensor | None = None
