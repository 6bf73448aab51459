"""Flips and crops: what they do, how often, and that they are draws of the generator alone."""

import pytest
import torch
from ds_cnn import Augmentation, RandomCrop, RandomHorizontalFlip
from ds_core import ShapeError
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPE = (3, 5, 7)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=6, shape=SHAPE, dtype=torch.uint8):
    return torch.randint(256, (count, *shape), generator=generator()).to(dtype)


def test_worked_example():
    x = torch.tensor([[1, 2], [3, 4]]).view(1, 1, 2, 2)
    flip, crop = RandomHorizontalFlip(), RandomCrop(padding=1)
    assert flip.apply(x, torch.tensor([True])).tolist() == [[[[2, 1], [4, 3]]]]
    assert crop.apply(x, torch.tensor([[0, 2]])).tolist() == [[[[0, 0], [2, 0]]]]
    assert crop.apply(x, torch.tensor([[1, 1]])).tolist() == x.tolist()


@pytest.mark.parametrize("augmentation", [RandomHorizontalFlip(), RandomCrop(padding=2), RandomCrop((2, 3))])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_what_both_have_in_common(augmentation, dtype):
    assert isinstance(augmentation, Augmentation)
    x = images(dtype=dtype)
    before = x.clone()
    drawn = augmentation.draw(6, SHAPE, generator())
    assert len(drawn) == 6
    assert torch.equal(drawn, augmentation.draw(6, SHAPE, generator()))
    y = augmentation.apply(x, drawn)
    assert y.dtype == dtype
    assert torch.equal(x, before)
    # one image at a time, and of memory in another order, the same
    assert torch.equal(y, torch.cat([augmentation.apply(x[n : n + 1], drawn[n : n + 1]) for n in range(6)]))
    assert torch.equal(y, augmentation.apply(x.contiguous(memory_format=torch.channels_last), drawn))
    assert augmentation.apply(x[:0], drawn[:0]).shape == (0, *y.shape[1:])
    shared = torch.get_rng_state()
    augmentation.draw(6, SHAPE, generator())
    assert torch.equal(torch.get_rng_state(), shared)


def test_flips():
    x = images(4)
    y = RandomHorizontalFlip().apply(x, torch.tensor([True, False, False, True]))
    assert y[0].tolist() == [[row[::-1] for row in channel] for channel in x[0].tolist()]
    assert torch.equal(y[1:3], x[1:3])
    assert y[3, 1, 2, 0] == x[3, 1, 2, 6]


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 1.0])
def test_how_often_it_flips(p):
    drawn = RandomHorizontalFlip(p).draw(10_000, SHAPE, generator())
    assert drawn.float().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / 10_000) ** 0.5)


def test_flips_are_independent_of_each_other():
    drawn = RandomHorizontalFlip().draw(10_000, SHAPE, generator()).float() - 0.5
    assert (drawn[1:] * drawn[:-1]).mean().abs() < 5 * 0.25 / 100


def test_all_windows_are_drawn_and_equally_often():
    crop = RandomCrop(padding=4)
    draws = 81_000
    drawn = crop.draw(draws, (3, 32, 32), generator())
    counts = torch.bincount(drawn[:, 0] * 9 + drawn[:, 1])
    assert (int(drawn.min()), int(drawn.max()), len(counts)) == (0, 8, 81)
    chi_square = ((counts - 1000).double().square() / 1000).sum()
    assert 80 - 5 * 160**0.5 < chi_square < 80 + 5 * 160**0.5  # 80 degrees of freedom


def test_a_window_of_a_smaller_size():
    drawn = RandomCrop((2, 3)).draw(1000, SHAPE, generator())
    assert sorted(set(map(tuple, drawn.tolist()))) == [(row, column) for row in range(4) for column in range(5)]
    x = images(1000, SHAPE)
    y = RandomCrop((2, 3)).apply(x, drawn)
    for number in range(0, 1000, 100):
        row, column = drawn[number].tolist()
        assert torch.equal(y[number], x[number, :, row : row + 2, column : column + 3])


@given(*[st.integers(1, 6)] * 4, st.integers(0, 4), st.integers(1, 5), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_against_one_image_at_a_time(height, width, h, w, padding, count, seed):
    """The window of each, cut out of the image in its frame by slices."""
    crop = RandomCrop((h, w), padding, fill=9)
    shape = (2, height, width)
    if h > height + 2 * padding or w > width + 2 * padding:
        with pytest.raises(ShapeError, match=r"RandomCrop\(size=.*given images of shape"):
            crop.draw(count, shape, generator(seed))
        return
    x = images(count, shape)
    drawn = crop.draw(count, shape, generator(seed))
    framed = torch.nn.functional.pad(x, [padding] * 4, value=9)
    y = crop.apply(x, drawn)
    assert y.is_contiguous()
    for number, (row, column) in enumerate(drawn.tolist()):
        assert torch.equal(y[number], framed[number, :, row : row + h, column : column + w])


def test_options_that_do_not_fit():
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="RandomHorizontalFlip: given p="):
            RandomHorizontalFlip(p)
    for options in ({"size": 0}, {"size": (3, 0)}, {"size": (3, 3, 3)}, {"padding": -1}):
        with pytest.raises(ValueError, match="RandomCrop: given size="):
            RandomCrop(**options)


def test_how_they_are_shown():
    assert repr(RandomHorizontalFlip(0.25)) == "RandomHorizontalFlip(p=0.25)"
    assert repr(RandomCrop(32, 4)) == "RandomCrop(size=(32, 32), padding=4)"
