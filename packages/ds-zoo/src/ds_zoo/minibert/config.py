"""The sizes of a MiniBERT, and transformers' config.json of them. Theory: docs/minibert/pretrained.md."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ds_core.arguments import probability, real_number, whole_number
from ds_core.training.pretrained_files import check_fixed

_OWNER = "MiniBERTConfig"
_SIZES = ("vocab_size", "max_length", "num_layers", "num_heads", "embed_dim", "hidden_dim", "type_vocab_size")


@dataclass(frozen=True)
class MiniBERTConfig:
    """The sizes of a MiniBERT; the defaults are BERT-base's (Devlin et al., "BERT: Pre-training of Deep Bidirectional
    Transformers for Language Understanding", 2019).

    Args:
        vocab_size: V, how many different tokens there are.
        max_length: the most tokens the model looks at together; each place has a learned position.
        num_layers: how many blocks follow one another.
        num_heads: attention heads in a block; must divide `embed_dim`.
        embed_dim: E, the length of a token's vector.
        hidden_dim: F, the width between the two layers of a feed-forward network.
        type_vocab_size: how many token types there are: 2 tell the first text of a pair from the second.
        dropout: the share of activations dropped in training, after the embedding and at the end of each branch.
        attention_dropout: the share of attention weights dropped.
        classifier_dropout: the share dropped before the linear layer of a classifier; None: as `dropout`.
        epsilon: what the normalisations add to the variance.
        initializer_range: the standard deviation of the initial matrices and embeddings.
        pad_token_id: the token that fills up short texts. Its embedding begins as zeros and is not trained as an
            embedding (in the tied decoder it is). None: there is no such token.

    Raises:
        TypeError, ValueError: a size is not a positive whole number, `num_heads` does not divide `embed_dim`, a rate
            is no probability, epsilon is not positive, the padding token is not in the vocabulary.
    """

    vocab_size: int = 30522
    max_length: int = 512
    num_layers: int = 12
    num_heads: int = 12
    embed_dim: int = 768
    hidden_dim: int = 3072
    type_vocab_size: int = 2
    dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float | None = None
    epsilon: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int | None = 0

    def __post_init__(self) -> None:
        for name in _SIZES:
            whole_number(_OWNER, name, getattr(self, name))
        if self.embed_dim % self.num_heads:
            raise ValueError(f"{_OWNER}: {self.num_heads} heads do not divide an embed_dim of {self.embed_dim}")
        for name in ("dropout", "attention_dropout", "classifier_dropout"):
            if name != "classifier_dropout" or self.classifier_dropout is not None:
                probability(_OWNER, name, getattr(self, name))
        if not real_number(_OWNER, "epsilon", self.epsilon) > 0:
            raise ValueError(f"{_OWNER}: epsilon is {self.epsilon}, expected a positive number")
        if not real_number(_OWNER, "initializer_range", self.initializer_range) >= 0:
            raise ValueError(f"{_OWNER}: initializer_range is {self.initializer_range}, expected 0 or more")
        if self.pad_token_id is not None:
            whole_number(_OWNER, "pad_token_id", self.pad_token_id, least=0)
            if self.pad_token_id >= self.vocab_size:
                raise ValueError(
                    f"{_OWNER}: pad_token_id is {self.pad_token_id}, expected one of the {self.vocab_size} tokens"
                )


# Our name of each field and transformers'
_NAMES = {
    "vocab_size": "vocab_size",
    "max_length": "max_position_embeddings",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "embed_dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "type_vocab_size": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "classifier_dropout": "classifier_dropout",
    "epsilon": "layer_norm_eps",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
}
# Fields of a BERT config.json that change the mathematics, and the values of each that MiniBERT computes
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("bert",),
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}


def to_hugging_face(config: MiniBERTConfig) -> dict[str, Any]:
    """The config.json that transformers reads as a BERT of the same sizes, without its architecture and labels."""
    sizes = {theirs: getattr(config, ours) for ours, theirs in _NAMES.items()}
    return {"model_type": "bert", **sizes, "hidden_act": "gelu", "tie_word_embeddings": True}


def from_hugging_face(given: Mapping[str, Any]) -> MiniBERTConfig:
    """Read transformers' config.json of a BERT; what it lacks is as in BERT-base.

    Raises:
        TypeError, ValueError: a model that is not BERT, or one with an option or a size that MiniBERT does not have.
    """
    check_fixed("MiniBERT", given, _FIXED)
    sizes = {field.name: given[_NAMES[field.name]] for field in fields(MiniBERTConfig) if _NAMES[field.name] in given}
    return MiniBERTConfig(**sizes)
