"""MiniViT: the Vision Transformer with handwritten gradients, its heads, its loss, its weights in and out."""

from ds_core import ClassifierLoss, ClassifierOutput
from ds_core.training.pretrained_labels import Labels

from ds_zoo.minivit.config import MiniViTConfig
from ds_zoo.minivit.heads import MiniViTForImageClassification
from ds_zoo.minivit.model import MiniViT
from ds_zoo.minivit.outputs import MiniViTOutput

__all__ = [
    "ClassifierLoss",
    "ClassifierOutput",
    "Labels",
    "MiniViT",
    "MiniViTConfig",
    "MiniViTForImageClassification",
    "MiniViTOutput",
]
