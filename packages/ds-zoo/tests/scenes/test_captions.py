"""Captions say what is there."""

import itertools
import re

import pytest
import torch
from ds_zoo.scenes import COLOURS, SIZES, VOCABULARY, Scene, Scenes, describe, digit_prompts
from ds_zoo.scenes.captions import DIGIT_WORDS, with_article

PHRASE = re.compile(rf"an? ({'|'.join(size.name for size in SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(DIGIT_WORDS)})")


def scene_of(*digits):
    """A scene of (size, colour, digit, x, y), without pixels."""
    sizes, colours, labels, xs, ys = zip(*digits, strict=True)
    boxes = torch.tensor([[x, y, 0.1, 0.1] for x, y in zip(xs, ys, strict=True)])
    return Scene(torch.zeros(3, 64, 64, dtype=torch.uint8), torch.tensor(labels), boxes, None, colours, sizes)


def test_the_example_of_the_page():
    scene = scene_of(("small", "blue", 7, 0.4, 0.8), ("large", "red", 3, 0.5, 0.3))
    assert describe(scene) == "a large red three above a small blue seven"
    assert describe(scene, sizes=False) == "a red three above a blue seven"
    assert describe(scene, colours=False) == "a large three above a small seven"
    assert describe(scene, sizes=False, colours=False) == "a three above a seven"


def test_two_digits_side_by_side_are_named_from_left_to_right():
    left, right = ("small", "blue", 7, 0.1, 0.5), ("large", "red", 3, 0.8, 0.45)
    for scene in (scene_of(left, right), scene_of(right, left)):
        assert describe(scene) == "a small blue seven left of a large red three"


def test_three_digits():
    scene = scene_of(("small", "white", 1, 0.2, 0.9), ("large", "cyan", 8, 0.8, 0.2), ("small", "orange", 8, 0.3, 0.3))
    assert describe(scene) == "a large cyan eight right of a small orange eight above a small white one"
    assert describe(scene, sizes=False).startswith("a cyan eight right of an orange eight above a white one")


def test_nothing():
    assert describe(Scenes(64, 0).scene(0)) == "nothing"


@pytest.mark.parametrize(
    ("words", "phrase"), [(["one"], "a one"), (["eight"], "an eight"), (["orange", "one"], "an orange one")]
)
def test_articles(words, phrase):
    assert with_article(words) == phrase


def test_every_caption_is_true():
    """Read word by word, each caption names every digit once, and each relation is that of the centres."""
    seen = set()
    for scene in itertools.islice(Scenes((48, 96), (1, 4)), 400):
        caption = describe(scene)
        seen.update(caption.split())
        phrases = PHRASE.findall(caption)
        said = sorted((size, colour, DIGIT_WORDS.index(digit)) for size, colour, digit in phrases)
        assert said == sorted(zip(scene.sizes, scene.colours, scene.class_labels.tolist(), strict=True))
        if len(set(said)) < len(said):
            continue  # which of two equal digits is meant, the caption does not say
        where = {
            (size, colour, int(label)): (x * 96, y * 48)
            for size, colour, label, (x, y, _, _) in zip(
                scene.sizes, scene.colours, scene.class_labels, scene.boxes.tolist(), strict=True
            )
        }
        centres = [where[size, colour, DIGIT_WORDS.index(digit)] for size, colour, digit in phrases]
        relations = [words.strip() for words in PHRASE.sub("|", caption).split("|")[1:-1]]
        for word, (x, y), (other_x, other_y) in zip(relations, centres, centres[1:], strict=False):
            if word == "above":
                assert other_y - y > abs(other_x - x) / 2
            else:
                assert abs(other_x - x) / 2 >= other_y - y
                assert (x < other_x) == (word == "left of")
    assert seen <= set(VOCABULARY)
    assert set(VOCABULARY) - seen == {"an", "nothing"}


def test_prompts():
    assert digit_prompts()[:2] == ("a zero", "a one")
    assert digit_prompts()[8] == "an eight"
    assert len(digit_prompts()) == 10
