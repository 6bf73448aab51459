"""Scenes: what is drawn is what is said."""

import itertools

import numpy as np
import pytest
import torch
from ds_zoo.scenes import COLOURS, SIZES, DigitSize, Scenes
from ds_zoo.scenes.digits import load_digits
from ds_zoo.scenes.drawing import INK, drawn_digits


def first(scenes, count):
    return list(itertools.islice(scenes, count))


def test_shapes_and_types():
    for scene in first(Scenes((48, 80), (0, 3)), 30):
        number = len(scene)
        assert (scene.image.shape, scene.image.dtype) == ((3, 48, 80), torch.uint8)
        assert (scene.class_labels.shape, scene.class_labels.dtype) == ((number,), torch.int64)
        assert (scene.boxes.shape, scene.boxes.dtype) == ((number, 4), torch.float32)
        assert (scene.masks.shape, scene.masks.dtype) == ((number, 48, 80), torch.bool)
        assert len(scene.colours) == len(scene.sizes) == number


def test_a_scene_is_a_function_of_seed_part_and_number():
    scenes = Scenes(seed=3)
    drawn = first(scenes, 6)
    again = Scenes(seed=3)
    for index in (5, 0, 3):
        scene = again.scene(index)
        for name in ("image", "class_labels", "boxes", "masks"):
            assert torch.equal(getattr(scene, name), getattr(drawn[index], name))
        assert (scene.colours, scene.sizes) == (drawn[index].colours, drawn[index].sizes)
    images = [*drawn, *first(Scenes(seed=4), 6), *first(Scenes(seed=3, part="held_out"), 6)]
    assert len({scene.image.numpy().tobytes() for scene in images}) == 18


def test_every_number_class_colour_and_size_comes_as_often():
    scenes = first(Scenes(64, (0, 4)), 3000)
    numbers = np.bincount([len(scene) for scene in scenes])
    assert len(numbers) == 5
    assert abs(numbers / 3000 - 1 / 5).max() < 0.03
    labels = torch.cat([scene.class_labels for scene in scenes])
    assert abs(labels.bincount() / len(labels) - 1 / 10).max() < 0.02
    for names, known in (("colours", list(COLOURS)), ("sizes", [size.name for size in SIZES])):
        found = [name for scene in scenes for name in getattr(scene, names)]
        assert all(abs(found.count(name) / len(found) - 1 / len(known)) < 0.03 for name in known)
        assert set(found) == set(known)


def test_masks_are_apart_and_boxes_are_theirs():
    for scene in first(Scenes(64, (1, 4), max_overlap=0.5), 300):
        assert scene.masks.sum(0).max() == 1
        for mask, box in zip(scene.masks, scene.boxes, strict=True):
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            x, y, width, height = (box * 64).tolist()
            assert (x - width / 2, x + width / 2) == (columns[0], columns[-1] + 1)
            assert (y - height / 2, y + height / 2) == (rows[0], rows[-1] + 1)


def test_the_image_shows_the_colour_that_is_named_where_the_mask_is():
    for scene in first(Scenes(64, (1, 4)), 100):
        for mask, name in zip(scene.masks, scene.colours, strict=True):
            seen = scene.image[:, mask].double().median(1).values
            distance = {other: (seen - torch.tensor(rgb)).norm() for other, rgb in COLOURS.items()}
            assert min(distance, key=distance.get) == name


def test_colours_stand_out_from_every_background():
    for scene in first(Scenes(64, 1), 200):
        ink, paper = (scene.image[:, where].double().mean(1) for where in (scene.masks[0], ~scene.masks[0]))
        assert (ink - paper).norm() > 90


def test_sizes_are_those_that_are_named():
    bounds = {size.name: size for size in SIZES}
    for scene in first(Scenes(64, 1), 300):
        size = bounds[scene.sizes[0]]
        height = float(scene.boxes[0, 3]) * 64
        assert size.least - 3 <= height <= size.most


def of_part(part, size):
    """The classes of all digits of a part by the pixels that are theirs."""
    known = {}
    labels = load_digits(part).labels
    for number in range(len(labels)):
        known.setdefault(trimmed(drawn_digits(part, size)[number] >= INK), set()).add(int(labels[number]))
    return known


def trimmed(mask):
    mask = mask[mask.any(1)][:, mask.any(0)]
    return mask.shape, mask.tobytes()


@pytest.mark.parametrize("part", ["training", "held_out"])
def test_the_digits_are_those_of_the_part(part):
    known = of_part(part, 20)
    for scene in first(Scenes(32, 1, sizes=[DigitSize("middling", 20, 20)], part=part), 200):
        assert int(scene.class_labels[0]) in known[trimmed(scene.masks[0].numpy())]


def test_later_digits_hide_earlier_ones():
    known = of_part("training", 13)
    scenes = first(Scenes(26, 4, sizes=[DigitSize("small", 13, 13)], max_overlap=0.5), 100)
    whole = [[trimmed(mask.numpy()) in known for mask in scene.masks] for scene in scenes]
    assert all(scene[-1] for scene in whole)
    assert sum(not scene[0] for scene in whole) > sum(not scene[2] for scene in whole) > 0


def test_a_full_image_and_an_empty_one():
    full = Scenes(48, 4, max_overlap=0.0).scene(0)
    assert len(full) == 4
    empty = Scenes(48, 0).scene(0)
    assert (len(empty), empty.boxes.shape, empty.masks.shape) == (0, (0, 4), (0, 48, 48))
    assert empty.detection_labels()["class_labels"].shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 20}, "digits of up to 24 pixels and images of 20 x 20, expected digits no larger"),
        ({"image_size": (64, 20)}, "images of 64 x 20"),
        ({"count": 5}, "up to 5 digits of up to 24 pixels, but only 4 of them are sure to find room"),
        ({"count": (1, 9), "image_size": (48, 64)}, "up to 9 digits .* only 4"),
        ({"count": (3, 1)}, r"count=\(3, 1\), expected \(least, most\)"),
        ({"count": -1}, "count=-1, expected 0 or more"),
        ({"count": (1, 2, 3)}, r"count=\(1, 2, 3\), expected one whole number or two"),
        ({"image_size": 0}, "image_size=0, expected 1 or more"),
        ({"colours": ["red", "gren"]}, "the colour 'gren', expected one of .*; did you mean green?"),
        ({"colours": []}, r"colours=\[\], expected one or more"),
        ({"colours": ["red", "red"]}, "none of them twice"),
        ({"sizes": [DigitSize("tiny", 4, 9)]}, "sizes, 'tiny',=4, expected 8 or more"),
        ({"sizes": [DigitSize("odd", 12, 9)]}, "odd digits of 12 to 9 pixels"),
        ({"sizes": []}, r"sizes named \[\], expected one or more"),
        ({"sizes": [DigitSize("a", 9, 9), DigitSize("a", 10, 10)]}, "different names"),
        ({"part": "test"}, "part='test'"),
        ({"max_overlap": 0.6}, "max_overlap=0.6, expected 0 to 0.5"),
        ({"seed": -1}, "seed=-1, expected 0 or more"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        Scenes(**options)


@pytest.mark.parametrize("options", [{"image_size": 64.0}, {"count": "two"}, {"seed": None}, {"max_overlap": "0"}])
def test_options_of_another_type(options):
    with pytest.raises(TypeError, match=rf"given {next(iter(options))}="):
        Scenes(**options)
