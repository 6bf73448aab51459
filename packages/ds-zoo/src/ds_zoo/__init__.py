"""Small models that people know by name, every gradient of them written by hand."""

from ds_core import TokenCrossEntropy
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.characters import CharacterTokenizer
from ds_core.text.text_data import read_text, standard_library_text
from ds_core.text.tokenizers import load_tokenizer

from ds_zoo.__about__ import __version__
from ds_zoo.minigpt import MiniGPT, MiniGPTConfig, generate

__all__ = [
    "BPETokenizer",
    "CharacterTokenizer",
    "MiniGPT",
    "MiniGPTConfig",
    "TokenCrossEntropy",
    "__version__",
    "generate",
    "load_tokenizer",
    "read_text",
    "standard_library_text",
]
