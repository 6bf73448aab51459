"""Digits drawn at any size."""

import numpy as np
import pytest
from ds_zoo.scenes.digits import load_digits
from ds_zoo.scenes.drawing import INK, DrawnDigits, drawn_digits, enlargement


def test_worked_example():
    """docs/scenes/scenes.md: the weights of one column of pixels, and what becomes ink."""
    size, i = 16, 3
    centre = (i + 0.5) * 8 / size - 0.5
    assert centre == 1.25
    np.testing.assert_array_equal(np.abs(centre - np.arange(4)), [1.25, 0.25, 0.75, 1.75])
    weights = enlargement(size)[i]
    np.testing.assert_allclose(weights, [-0.0703, 0.8672, 0.2266, -0.0234, 0, 0, 0, 0], atol=5.1e-5)
    assert weights.sum() == pytest.approx(1)
    row = np.array([0, 0.5, 0.25, 0, 0, 0, 0, 0], np.float32)
    assert weights @ row == pytest.approx(0.4902, abs=5.1e-5)
    ink = DrawnDigits(np.tile(row, (1, 8, 1)), size).ink[0, size // 2, i]
    assert ink == pytest.approx((weights @ row - 0.25) / 0.4, abs=1e-6)
    assert ink == pytest.approx(0.6006, abs=5.1e-5)
    assert ink >= INK


@pytest.mark.parametrize("size", [8, 13, 24])
def test_enlargement_interpolates_parabolas_exactly(size):
    """As cubic interpolation with Catmull-Rom's constant does, and no other constant."""
    old, new = np.arange(8), (np.arange(size) + 0.5) * 8 / size - 0.5
    inside = (new >= 1) & (new <= 6)  # where no weight lies beyond the edge
    for power in range(3):
        np.testing.assert_allclose((enlargement(size) @ old**power)[inside], (new**power)[inside], atol=1e-4)


def test_enlargement_to_the_old_size_changes_nothing():
    np.testing.assert_array_equal(enlargement(8), np.eye(8))


def test_digits_are_cut_out_tightly_and_nothing_is_lost():
    images = load_digits("held_out").images
    drawn = DrawnDigits(images, 20)
    for number in range(0, 360, 7):
        cut = drawn[number]
        assert cut.sum() == pytest.approx(drawn.ink[number].sum())
        assert cut[0].any()
        assert cut[-1].any()
        assert cut[:, 0].any()
        assert cut[:, -1].any()


@pytest.mark.parametrize("part", ["training", "held_out"])
def test_every_digit_can_be_seen(part):
    for size in (8, 10, 24):
        drawn = drawn_digits(part, size)
        assert drawn.ink.min() == 0
        assert drawn.ink.max() == 1
        assert ((drawn.ink >= INK).sum((1, 2)) > size).all()  # a stroke is about as long as the digit is high
