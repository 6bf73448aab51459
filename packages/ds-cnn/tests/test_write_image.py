"""Tensors as PNG files, grids of images, and images of any range made visible."""

import os
import sys

import pytest
import torch
from ds_cnn import image_grid, read_image, stretch_contrast, write_image
from ds_core import ShapeError
from ds_core.errors import MissingPackageError, WriteError
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (4, 5)])
def test_what_is_written_is_read(tmp_path, shape):
    image = torch.randint(256, shape, dtype=torch.uint8)
    write_image(tmp_path / "a.png", image)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert torch.equal(read_image(tmp_path / "a.png", channels=3 if shape[0] == 3 else 1), image.view(-1, 4, 5))
    write_image(str(tmp_path / "b.jpg"), image)  # a PNG whatever the name
    assert (tmp_path / "b.jpg").read_bytes() == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_floating_numbers_from_0_to_1(tmp_path, dtype):
    image = torch.tensor([[-1, 0, 0.25, 0.5, 1, 7, torch.inf, -torch.inf]], dtype=dtype, requires_grad=True)
    write_image(tmp_path / "a.png", image)
    assert read_image(tmp_path / "a.png", channels=1).tolist() == [[[0, 0, 64, 128, 255, 255, 255, 0]]]


def test_every_byte_comes_back(tmp_path):
    image = torch.arange(256, dtype=torch.uint8).view(16, 16)
    write_image(tmp_path / "a.png", image / 255)
    assert torch.equal(read_image(tmp_path / "a.png", channels=1)[0], image)


def test_memory_of_any_layout(tmp_path):
    image = torch.randint(256, (5, 4, 3), dtype=torch.uint8).permute(2, 1, 0)
    write_image(tmp_path / "a.png", image[:, ::2].flip(1))
    assert torch.equal(read_image(tmp_path / "a.png"), image[:, ::2].flip(1))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 4, 4), r"given shape \(2, 4, 4\), expected \(1 or 3, H, W\) or \(H, W\)"),
        (torch.zeros(1, 3, 4, 4), r"given shape \(1, 3, 4, 4\)"),
        (torch.zeros(4), r"given shape \(4,\)"),
        (torch.zeros(3, 0, 4), r"given shape \(3, 0, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), r"given torch.int64, expected uint8 or a floating dtype"),
        (torch.full((4, 4), torch.nan), "given NaN, expected numbers of 0 to 1"),
    ],
)
def test_what_is_no_image(tmp_path, image, message):
    with pytest.raises(ShapeError, match="write_image: " + message):
        write_image(tmp_path / "a.png", image)
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(WriteError, match=r"cannot write .*gone/a\.png"):
        write_image(tmp_path / "gone" / "a.png", torch.zeros(2, 2))


def test_without_pillow(monkeypatch, tmp_path):
    for name in ["PIL", *(name for name in sys.modules if name.startswith("PIL."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r'writing images needs PIL.*pip install "ds-cnn\[images\]"'):
        write_image(tmp_path / "a.png", torch.zeros(2, 2))


def test_a_grid():
    images = torch.arange(1, 6).view(5, 1, 1, 1).expand(5, 1, 2, 1)
    assert image_grid(images, 3).tolist() == [
        [
            [0, 0, 0, 0, 0, 0, 0],
            [0, 1, 0, 2, 0, 3, 0],
            [0, 1, 0, 2, 0, 3, 0],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 4, 0, 5, 0, 0, 0],
            [0, 4, 0, 5, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
        ]
    ]
    assert image_grid(images, 5, gap=0).tolist() == [[[1, 2, 3, 4, 5]] * 2]
    assert image_grid(images[:1], 2, gap=0, background=9).tolist() == [[[1, 9], [1, 9]]]


@given(*[st.integers(1, 7)] * 5, st.integers(0, 3))
@settings(deadline=None, max_examples=30)
def test_every_image_is_in_its_cell(count, channels, height, width, columns, gap):
    images = torch.rand(count, channels, height, width)
    grid = image_grid(images, columns, gap=gap, background=2)
    rows = -(-count // columns)
    assert grid.shape == (channels, rows * (height + gap) + gap, columns * (width + gap) + gap)
    for number, image in enumerate(images):
        top, left = gap + number // columns * (height + gap), gap + number % columns * (width + gap)
        assert torch.equal(grid[:, top : top + height, left : left + width], image)
    assert (grid == 2).sum() == grid.numel() - images.numel()
    assert grid.dtype == images.dtype


def test_grids_that_cannot_be():
    for shape in [(3, 4, 4), (0, 3, 4, 4)]:
        with pytest.raises(ShapeError, match=r"image_grid: given shape"):
            image_grid(torch.zeros(shape), 2)
    for options in ({"columns": 0}, {"columns": 2, "gap": -1}):
        with pytest.raises(ValueError, match="image_grid: given columns="):
            image_grid(torch.zeros(1, 1, 2, 2), **options)
    for background in (-1, 256, 0.5):
        with pytest.raises(ValueError, match="for uint8, expected a whole number of 0 to 255"):
            image_grid(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), 2, background=background)


def test_contrast():
    images = torch.tensor([[-2.0, 0, 2], [5, 5, 5], [1e-3, 2e-3, 3e-3]])
    expected = torch.tensor([[0, 0.5, 1], [0.5, 0.5, 0.5], [0, 0.5, 1]])
    torch.testing.assert_close(stretch_contrast(images), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(stretch_contrast(images.view(3, 1, 3)), expected.view(3, 1, 3), atol=1e-6, rtol=0)
    assert stretch_contrast(torch.tensor([[0, 4, 8]], dtype=torch.uint8)).tolist() == [[0, 0.5, 1]]
    for shape in [(3,), (0, 3), (3, 0)]:
        with pytest.raises(ShapeError, match=r"stretch_contrast: given shape"):
            stretch_contrast(torch.zeros(shape))
