"""MiniBERT: BERT's architecture with handwritten gradients, its heads, its tokenizer, its data, its weights."""

from ds_zoo.minibert.baseline import BigramGuess
from ds_zoo.minibert.config import MiniBERTConfig
from ds_zoo.minibert.criterion import MaskedLMLoss, PreTrainingLoss, TokenClassificationLoss
from ds_zoo.minibert.heads import (
    MiniBERTForMaskedLM,
    MiniBERTForPreTraining,
    MiniBERTForSequenceClassification,
    MiniBERTForTokenClassification,
)
from ds_zoo.minibert.masking import MaskedBlocks, SentencePairs, TokenDocuments, mask_tokens
from ds_zoo.minibert.model import MiniBERT
from ds_zoo.minibert.outputs import BertOutput, MaskedLMOutput, PreTrainingOutput, TokenClassifierOutput
from ds_zoo.minibert.sentences import library_documents, text_documents
from ds_zoo.minibert.wordpiece import WordPieceTokenizer

__all__ = [
    "BertOutput",
    "BigramGuess",
    "MaskedBlocks",
    "MaskedLMLoss",
    "MaskedLMOutput",
    "MiniBERT",
    "MiniBERTConfig",
    "MiniBERTForMaskedLM",
    "MiniBERTForPreTraining",
    "MiniBERTForSequenceClassification",
    "MiniBERTForTokenClassification",
    "PreTrainingLoss",
    "PreTrainingOutput",
    "SentencePairs",
    "TokenClassificationLoss",
    "TokenClassifierOutput",
    "TokenDocuments",
    "WordPieceTokenizer",
    "library_documents",
    "mask_tokens",
    "text_documents",
]
