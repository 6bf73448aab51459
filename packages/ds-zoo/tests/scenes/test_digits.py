"""The digits' two parts."""

import numpy as np
import pytest
from ds_core.data.scikit_learn import from_scikit_learn
from ds_zoo.scenes.digits import load_digits


def everything():
    images, labels = from_scikit_learn("digits").rows
    return (images[:, 0] / 16).numpy(), labels.tolist()


def test_two_parts_share_no_image_and_leave_none_out():
    training, held_out = load_digits("training"), load_digits("held_out")
    assert (len(training.labels), len(held_out.labels)) == (1437, 360)
    images = {image.tobytes() for image in everything()[0]}
    first, second = ({image.tobytes() for image in part.images} for part in (training, held_out))
    assert first | second == images
    assert not first & second


@pytest.mark.parametrize("part", ["training", "held_out"])
def test_every_class_is_there_in_proportion(part):
    digits = load_digits(part)
    counts = np.bincount(digits.labels)
    assert counts.max() / counts.min() < 1.1  # 174 to 183 of each class in all
    assert [len(numbers) for numbers in digits.of_class] == counts.tolist()
    assert all((digits.labels[list(numbers)] == label).all() for label, numbers in enumerate(digits.of_class))


def test_labels_are_those_of_their_images():
    label_of = {image.tobytes(): label for image, label in zip(*everything(), strict=True)}
    held_out = load_digits("held_out")
    assert [label_of[image.tobytes()] for image in held_out.images] == held_out.labels.tolist()


def test_another_part_is_refused():
    with pytest.raises(ValueError, match=r"given part='test', expected one of \['training', 'held_out'\]"):
        load_digits("test")
