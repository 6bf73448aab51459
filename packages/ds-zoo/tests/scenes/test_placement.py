"""Where digits stand."""

import random

import pytest
from ds_zoo.scenes.placement import place, place_in_cells


def shared(first, second):
    (top, left, h, w), (y, x, height, width) = first, second
    return max(0, min(top + h, y + height) - max(top, y)) * max(0, min(left + w, x + width) - max(left, x))


@pytest.mark.parametrize("max_overlap", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("number", [1, 2, 4, 9])
def test_nothing_sticks_out_and_little_is_shared(number, max_overlap):
    generator = random.Random(number)
    most = 0.0
    for _ in range(200):
        sizes = [(generator.randint(3, 10), generator.randint(3, 10)) for _ in range(number)]
        places = place(sizes, 33, 30, max_overlap, 10, generator.random)
        boxes = [(*where, *size) for where, size in zip(places, sizes, strict=True)]
        for top, left, h, w in boxes:
            assert 0 <= top <= 33 - h
            assert 0 <= left <= 30 - w
        for box in boxes:
            overlap = sum(shared(box, other) for other in boxes if other is not box) / (box[2] * box[3])
            assert overlap <= max_overlap
            most = max(most, overlap)
    assert (most > 0) == (max_overlap > 0 and number > 1)


def test_a_full_image_is_filled_cell_by_cell():
    places = place([(10, 10)] * 9, 30, 30, 0.0, 10, random.Random(0).random)
    assert sorted(places) == [(y, x) for y in (0, 10, 20) for x in (0, 10, 20)]


def test_cells_have_room_for_smaller_ones_anywhere_in_them():
    generator = random.Random(1)
    found = {place_in_cells([(4, 5), (5, 4)], 21, 10, 5, None, generator.random)[0] for _ in range(2000)}
    assert {top for top, _ in found} == {0, 1, 5, 6, 10, 11, 15, 16, 17}
    assert {left for _, left in found} == {0, 5}


def test_jitter_is_how_far_off_the_middle_a_digit_may_be():
    generator = random.Random(3)
    for jitter, tops in ((0, {3, 13}), (1, {2, 3, 4, 12, 13, 14}), (9, {*range(7), *range(10, 17)})):
        found = {place_in_cells([(4, 5)], 20, 20, 10, jitter, generator.random)[0] for _ in range(3000)}
        assert {top for top, _ in found} == tops
        assert {left for _, left in found} <= set(range(16))
        assert jitter != 0 or {left for _, left in found} == {2, 3, 12, 13}  # an odd room has two middles


def test_every_place_is_taken_sometimes():
    generator = random.Random(2)
    found = {place([(8, 6)], 10, 10, 0.1, 10, generator.random)[0] for _ in range(500)}
    assert found == {(top, left) for top in range(3) for left in range(5)}
