"""Scenes of one digit among scenes of several, and captions that leave words out. Theory: docs/miniclip/recipe.md."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ds_zoo.scenes import COLOURS, DigitSize, Scene, Scenes, describe
from ds_zoo.scenes.captions import DIGIT_WORDS, RELATIONS

# Of the side of a scene: digits fill much of it, since a model that sees patches learns large ones first
_SMALL, _LARGE = (11 / 32, 12 / 32), (15 / 32, 16 / 32)
# Of the short captions: those that name colours but no sizes, and the other way round; the others name neither
_COLOURS_ALONE = _SIZES_ALONE = 0.15


@dataclass(frozen=True)
class MixedScenes:
    """Scenes with one digit, evenly spread among scenes with up to several.

    Attributes:
        one, several: where they come from.
        share: of those with one digit.
    """

    one: Scenes
    several: Scenes
    share: float

    def scene(self, index: int) -> Scene:
        """Scene number `index`, at least 0."""
        single = int((index + 1) * self.share) > int(index * self.share)
        return (self.one if single else self.several).scene(index)


def digit_sizes(scene_size: int) -> tuple[DigitSize, DigitSize]:
    """Small and large digits for scenes of so many pixels."""
    small, large = (
        (max(8, round(least * scene_size)), max(8, round(most * scene_size))) for least, most in (_SMALL, _LARGE)
    )
    return DigitSize("small", *small), DigitSize("large", *large)


def caption_of(scene: Scene, short: float) -> str:
    """The caption of a scene; of a share `short` of all scenes one that leaves out sizes, colours or both.

    Digits are what is hardest to see. A caption such as "a three" can only be told from others by its digit, so that
    short captions teach digits, and are what zero-shot prompts look like. Which scenes they are depends on the image
    alone.
    """
    image: Any = scene.image.numpy()
    drawn = zlib.crc32(image.tobytes()) / 2**32
    if drawn >= short:
        return describe(scene)
    drawn /= short  # 0 to 1 again
    return describe(scene, colours=drawn < _COLOURS_ALONE, sizes=drawn > 1 - _SIZES_ALONE)


def longest_caption(digits: int, length: Callable[[str], int]) -> str:
    """A caption of so many digits, each of its words the longest of its kind as `length` measures it."""
    kinds = [("a",), ("small", "large"), COLOURS, DIGIT_WORDS]
    phrase = " ".join(max(kind, key=lambda word: length(f"a {word}")) for kind in kinds)
    relation = max(RELATIONS, key=lambda words: length(f"a {words}"))
    return f" {relation} ".join([phrase] * digits)
