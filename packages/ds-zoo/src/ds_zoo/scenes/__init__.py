"""Scenes of handwritten digits with boxes, masks and captions, and captioned images of one's own."""

from ds_zoo.scenes.caption_files import CaptionedImages, read_captions
from ds_zoo.scenes.captions import VOCABULARY, describe, digit_prompts
from ds_zoo.scenes.palette import COLOURS, SIZES, DigitSize
from ds_zoo.scenes.scene import Scene
from ds_zoo.scenes.scene_batches import SceneBatches, captioned, classified, with_distinct_captions
from ds_zoo.scenes.scenes import Scenes

__all__ = [
    "COLOURS",
    "SIZES",
    "VOCABULARY",
    "CaptionedImages",
    "DigitSize",
    "Scene",
    "SceneBatches",
    "Scenes",
    "captioned",
    "classified",
    "describe",
    "digit_prompts",
    "read_captions",
    "with_distinct_captions",
]
