"""A scene in words: "a large red three above a small blue seven". Theory: docs/scenes/captions.md."""

from collections.abc import Sequence

from ds_zoo.scenes.palette import COLOURS, SIZES
from ds_zoo.scenes.scene import Scene

# N = digits of a scene

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RELATIONS = ("above", "left of", "right of")
NOTHING = "nothing"
_LETTERS = ("a", "an")
VOCABULARY = tuple(
    dict.fromkeys(
        word
        for words in (_LETTERS, [size.name for size in SIZES], COLOURS, DIGIT_WORDS, RELATIONS, [NOTHING])
        for phrase in words
        for word in phrase.split()
    )
)


def describe(scene: Scene, *, sizes: bool = True, colours: bool = True) -> str:
    """The caption of a scene: each digit with its size and colour, and how it stands to the next one.

    Digits are named from the top downwards. Between two neighbours of that order stands "above" if their centres are
    more than half as far apart vertically as horizontally, otherwise "left of" or "right of". Two digits side by side
    are named from left to right. A scene without digits is "nothing".

    Args:
        sizes, colours: whether they are named.
    """
    if len(scene) == 0:
        return NOTHING
    height, width = scene.image.shape[1:]
    centres = [(x * width, y * height) for x, y in scene.boxes[:, :2].tolist()]
    order = sorted(range(len(scene)), key=lambda number: centres[number][1])
    if len(order) == 2 and not _is_above(*(centres[number] for number in order)):
        order.sort(key=lambda number: centres[number][0])
    words = []
    for number, after in zip(order, [*order[1:], None], strict=True):
        words.append(noun_phrase(scene, number, sizes=sizes, colours=colours))
        if after is not None:
            words.append(relation(centres[number], centres[after]))
    return " ".join(words)


def noun_phrase(scene: Scene, number: int, *, sizes: bool = True, colours: bool = True) -> str:
    """One digit of a scene, such as "a large red three"."""
    adjectives = [scene.sizes[number]] if sizes else []
    adjectives += [scene.colours[number]] if colours else []
    return with_article([*adjectives, DIGIT_WORDS[int(scene.class_labels[number])]])


def with_article(words: Sequence[str]) -> str:
    """The words after "a", or after "an" if the first begins with a vowel's sound."""
    sounds_like_a_vowel = words[0][0] in "aeiou" and words[0] != "one"
    return " ".join(["an" if sounds_like_a_vowel else "a", *words])


def relation(centre: tuple[float, float], other: tuple[float, float]) -> str:
    """How a digit stands to one that is not above it, from the centres (x, y) of both in pixels."""
    if _is_above(centre, other):
        return "above"
    return "left of" if centre[0] < other[0] else "right of"


def digit_prompts() -> tuple[str, ...]:
    """Ten captions, "a zero" to "a nine": the classes of zero-shot classification of scenes with one digit."""
    return tuple(with_article([word]) for word in DIGIT_WORDS)


def _is_above(centre: tuple[float, float], other: tuple[float, float]) -> bool:
    return other[1] - centre[1] > abs(other[0] - centre[0]) / 2
