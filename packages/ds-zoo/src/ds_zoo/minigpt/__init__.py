"""MiniGPT: GPT-2's architecture with handwritten gradients, its loss, its text, its weights in and out."""

from ds_core import TokenCrossEntropy
from ds_core.text.blocks import RandomBlocks, consecutive_blocks

from ds_zoo.minigpt.config import MiniGPTConfig
from ds_zoo.minigpt.criterion import CausalLanguageLoss
from ds_zoo.minigpt.generate import generate
from ds_zoo.minigpt.generate_batch import generate_batch
from ds_zoo.minigpt.model import MiniGPT

__all__ = [
    "CausalLanguageLoss",
    "MiniGPT",
    "MiniGPTConfig",
    "RandomBlocks",
    "TokenCrossEntropy",
    "consecutive_blocks",
    "generate",
    "generate_batch",
]
