"""MiniCLIP: CLIP's architecture with handwritten gradients, its contrastive loss, its weights in and out."""

from ds_zoo.miniclip.config import MiniCLIPConfig, TextConfig, VisionConfig
from ds_zoo.miniclip.criterion import ContrastiveLoss
from ds_zoo.miniclip.model import MiniCLIP
from ds_zoo.miniclip.outputs import MiniCLIPOutput

__all__ = ["ContrastiveLoss", "MiniCLIP", "MiniCLIPConfig", "MiniCLIPOutput", "TextConfig", "VisionConfig"]
