"""The words of a scene and what they look like: colours and sizes. Theory: docs/scenes/scenes.md."""

from typing import NamedTuple

# Red, green and blue, 0 to 255. All are bright or strong, since backgrounds are dark and dull
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (232, 48, 44),
    "orange": (255, 146, 24),
    "yellow": (250, 232, 64),
    "green": (64, 204, 72),
    "cyan": (72, 222, 232),
    "blue": (76, 112, 255),
    "purple": (186, 76, 232),
    "white": (246, 246, 246),
}


class DigitSize(NamedTuple):
    """A word and the sides in pixels, both ends included, of the squares that such digits are drawn on."""

    name: str
    least: int
    most: int


# A gap between them, so that nobody has to guess which word is meant
SIZES = (DigitSize("small", 10, 14), DigitSize("large", 18, 24))
