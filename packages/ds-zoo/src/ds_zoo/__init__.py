"""Small models that people know by name, every gradient of them written by hand."""

from ds_core import TokenCrossEntropy
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.characters import CharacterTokenizer
from ds_core.text.text_data import read_text, standard_library_text
from ds_core.text.tokenizers import load_tokenizer

from ds_zoo.__about__ import __version__
from ds_zoo.minibert import (
    MiniBERT,
    MiniBERTConfig,
    MiniBERTForMaskedLM,
    MiniBERTForPreTraining,
    MiniBERTForSequenceClassification,
    MiniBERTForTokenClassification,
    WordPieceTokenizer,
)
from ds_zoo.miniclip import ContrastiveLoss, MiniCLIP, MiniCLIPConfig, TextConfig, VisionConfig
from ds_zoo.minigpt import CausalLanguageLoss, MiniGPT, MiniGPTConfig, generate, generate_batch
from ds_zoo.minivit import MiniViT, MiniViTConfig, MiniViTForImageClassification

__all__ = [
    "BPETokenizer",
    "CausalLanguageLoss",
    "CharacterTokenizer",
    "ContrastiveLoss",
    "MiniBERT",
    "MiniBERTConfig",
    "MiniBERTForMaskedLM",
    "MiniBERTForPreTraining",
    "MiniBERTForSequenceClassification",
    "MiniBERTForTokenClassification",
    "MiniCLIP",
    "MiniCLIPConfig",
    "MiniGPT",
    "MiniGPTConfig",
    "MiniViT",
    "MiniViTConfig",
    "MiniViTForImageClassification",
    "TextConfig",
    "TokenCrossEntropy",
    "VisionConfig",
    "WordPieceTokenizer",
    "__version__",
    "generate",
    "generate_batch",
    "load_tokenizer",
    "read_text",
    "standard_library_text",
]
