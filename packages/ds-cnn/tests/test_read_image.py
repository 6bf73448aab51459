"""Every kind of image file, and every kind of file that is none."""

import errno
import io
import os
import struct
import sys
import zlib
from pathlib import Path

import pytest
import torch
from ds_cnn import ImageError, ImageReader, read_image
from ds_cnn.images.read_image import FORMATS
from ds_core.errors import MissingPackageError
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def picture(seed=0, height=5, width=7):
    """Random colours, (3, height, width) uint8, and as Pillow's image."""
    pixels = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return pixels, Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def colours(tensor):
    """The pixels of (3, H, W) as rows of (red, green, blue)."""
    return [[tuple(pixel) for pixel in row] for row in tensor.permute(1, 2, 0).tolist()]


def png(*chunks):
    """A PNG of (name, content)."""
    file = b"\x89PNG\r\n\x1a\n"
    for name, content in (*chunks, (b"IEND", b"")):
        file += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return file


@pytest.fixture
def saved(tmp_path):
    """Save a Pillow image -> its path."""

    def save(image, name="image.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.tiff", "a.ppm", "A.PNG"])
def test_formats_that_lose_nothing(saved, name):
    pixels, image = picture()
    found = read_image(saved(image, name))
    assert torch.equal(found, pixels)
    assert found.is_contiguous()
    assert torch.equal(read_image(saved(image, "a.webp", lossless=True)), pixels)


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.jfif", "a.jpe"])
def test_jpeg(saved, name):
    found = read_image(saved(Image.new("RGB", (16, 8), (200, 100, 50)), name, quality=95))
    assert found.shape == (3, 8, 16)
    assert (found.int() - torch.tensor([200, 100, 50])[:, None, None]).abs().max() <= 3


def test_every_format_is_known_to_pillow():
    Image.init()
    assert set(FORMATS.values()) <= set(Image.OPEN)


def test_the_content_decides_and_not_the_name(saved):
    pixels, image = picture()
    assert torch.equal(read_image(saved(image, "a.jpg", format="PNG")), pixels)


def test_grey_and_colour(saved):
    grey = Image.frombytes("L", (3, 1), bytes([0, 100, 255]))
    assert read_image(saved(grey)).tolist() == [[[0, 100, 255]]] * 3
    assert read_image(saved(grey), channels=1).tolist() == [[[0, 100, 255]]]
    red = saved(Image.new("RGB", (1, 1), (255, 0, 0)))
    assert read_image(red, channels=1).tolist() == [[[76]]]  # 0.299 of 255: ITU-R BT.601


def test_black_and_white(saved):
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert read_image(saved(image), channels=1).tolist() == [[[0, 255]]]
    assert read_image(saved(image), (1, 4), channels=1, fit="squash").tolist() == [[[0, 64, 191, 255]]]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_of_an_animation_the_first_frame(saved, name):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if name == "a.webp" else {}
    path = saved(frames[0], name, save_all=True, append_images=frames[1:], **options)
    assert Image.open(path).n_frames == 3
    assert colours(read_image(path)) == [[RED] * 4] * 4


def palette(colours, indices):
    image = Image.frombytes("P", (len(indices), 1), bytes(indices))
    image.putpalette([number for colour in colours for number in colour])
    return image


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.bmp"])
def test_palette(saved, name):
    image = palette([RED, GREEN, (1, 2, 3)], [2, 0, 1, 1])
    assert colours(read_image(saved(image, name))) == [[(1, 2, 3), RED, GREEN, GREEN]]


def test_a_palette_is_not_mixed_when_it_is_resized(saved):
    image = palette([BLACK, RED, WHITE], [0, 2])  # between index 0 and 2 stands red
    assert all(red == green == blue for red, green, blue in colours(read_image(saved(image), (1, 8), fit="squash"))[0])


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_one_transparent_colour_of_a_palette_is_white(saved, name):
    image = palette([RED, GREEN, BLUE], [0, 1, 2])
    assert colours(read_image(saved(image, name, transparency=1))) == [[RED, WHITE, BLUE]]


def test_a_palette_with_degrees_of_transparency(saved):
    image = palette([BLACK, BLACK, BLACK], [0, 1, 2])
    found = read_image(saved(image, transparency=bytes([0, 51, 255])), channels=1)
    assert found.tolist() == [[[255, 204, 0]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_laid_on_white(saved, channels):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 51))
    image.putpixel((2, 0), (0, 0, 0, 255))
    assert read_image(saved(image), channels=channels).tolist() == [[[255, 204, 0]]] * channels
    grey = image.convert("LA")
    assert read_image(saved(grey), channels=channels).tolist() == [[[255, 204, 0]]] * channels


def test_a_transparent_colour_without_a_palette(saved):
    image = Image.frombytes("RGB", (2, 1), bytes([*RED, *GREEN]))
    assert colours(read_image(saved(image, transparency=RED))) == [[WHITE, GREEN]]
    grey = Image.frombytes("L", (2, 1), bytes([7, 8]))
    assert read_image(saved(grey, transparency=7), channels=1).tolist() == [[[255, 8]]]


def test_transparency_before_resizing(saved):
    """What the invisible pixels are like beneath makes no difference."""
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert read_image(saved(image), 3).tolist() == torch.full((3, 3, 3), 255).tolist()


SIXTEEN = [0, 128, 129, 257, 32768, 65407, 65535]
EIGHT = [0, 0, 1, 1, 128, 255, 255]  # to the nearest of 257 n: 65407 / 257 = 254.502


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_is_scaled(saved, name):
    image = Image.frombytes("I;16", (7, 1), struct.pack("<7H", *SIXTEEN))
    path = saved(image.convert("I") if name == "a.pgm" else image, name)
    assert Image.open(path).mode[0] == "I"
    assert read_image(path, channels=1).tolist() == [[EIGHT]]
    assert read_image(path).tolist() == [[EIGHT]] * 3


def test_16_bit_grey_with_the_other_byte_order(tmp_path):
    tags = [(256, 7), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 14)]
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    content = b"MM\0*" + struct.pack(">I", 22) + struct.pack(">7H", *SIXTEEN)
    path = tmp_path / "a.tif"
    path.write_bytes(content + struct.pack(">H", len(tags)) + entries + bytes(4))
    assert read_image(path, channels=1).tolist() == [[EIGHT]]


@pytest.mark.parametrize(("kind", "found"), [(2, [[0x80], [0x01], [0xFF]]), (6, [[0xFF], [0xFF], [0xFF]])])
def test_16_bit_colour_loses_its_lower_bits(tmp_path, kind, found):
    """Kind 2 is colour, 6 has transparency: here none of it is visible."""
    pixels = struct.pack(">3H", 0x80FF, 0x0102, 0xFF00) + (bytes(2) if kind == 6 else b"")
    chunks = [(b"IHDR", struct.pack(">II5B", 1, 1, 16, kind, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" + pixels))]
    (tmp_path / "a.png").write_bytes(png(*chunks))
    assert read_image(tmp_path / "a.png")[:, 0].tolist() == found


def test_floating_point_grey(saved):
    values = torch.tensor([0, 0.5, 1.0])
    image = Image.frombytes("F", (3, 1), values.numpy().tobytes())
    assert read_image(saved(image, "a.tif"), channels=1).tolist() == [[[0, 128, 255]]]
    for bad in (1.5, -0.1, float("nan"), float("inf")):
        values[1] = bad
        path = saved(Image.frombytes("F", (3, 1), values.numpy().tobytes()), "a.tif")
        with pytest.raises(ImageError, match=r"a\.tif cannot be decoded: it has floating-point values outside of 0 to"):
            read_image(path)


def test_integers_of_unknown_range(saved):
    image = Image.frombytes("I", (2, 1), struct.pack("<2i", 0, 65536))
    with pytest.raises(ImageError, match=r"it has grey values outside of 0 to 65535"):
        read_image(saved(image, "a.tif"))


def test_cmyk(saved):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan: red
    for name in ("a.tif", "a.jpg"):
        found = read_image(saved(image, name)).int()
        assert (found - torch.tensor(RED)[:, None, None]).abs().max() <= 4


def test_colours_that_are_not_converted_are_refused(saved, monkeypatch):
    """Pillow's versions differ in which these are."""

    def refuse(self, mode):
        raise ValueError(f"conversion from {self.mode} to {mode} not supported")

    path = saved(Image.new("LAB", (2, 2)), "a.tif")
    monkeypatch.setattr(Image.Image, "convert", refuse)
    refused(path, r"a\.tif cannot be decoded: conversion from LAB to RGB not supported")


# Where EXIF's orientations, by number, store the pixel that belongs at the top left, and the one right of it.
TURNED = {
    1: lambda x: x,
    2: lambda x: x.flip(2),
    3: lambda x: x.flip(1, 2),
    4: lambda x: x.flip(1),
    5: lambda x: x.transpose(1, 2),
    6: lambda x: x.transpose(1, 2).flip(1),  # as shown, turned a quarter against the clock to be stored
    7: lambda x: x.flip(1, 2).transpose(1, 2),
    8: lambda x: x.transpose(1, 2).flip(2),
}


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation(saved, orientation, name):
    pixels, _ = picture()
    stored = Image.fromarray(TURNED[orientation](pixels).permute(1, 2, 0).contiguous().numpy())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(stored, name, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
    assert torch.equal(read_image(path), pixels)


def test_exif_orientation_of_a_jpeg(saved):
    """A photograph taken upright: the camera stores it lying, its top to the left as it is stored, and says 6."""
    image = Image.new("RGB", (16, 32), RED)
    image.paste(BLUE, (0, 0, 16, 16))  # blue above
    exif = Image.Exif()
    exif[0x0112] = 6
    found = read_image(saved(image.transpose(Image.Transpose.ROTATE_90), "a.jpg", exif=exif, quality=95))
    assert found.shape == (3, 32, 16)
    assert found[2, 0].min() > 200
    assert found[0, 31].min() > 200


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none(saved, orientation):
    pixels, image = picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert torch.equal(read_image(saved(image, exif=exif)), pixels)


def test_exif_data_that_is_damaged(saved):
    pixels, image = picture()
    for exif in (b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        assert torch.equal(read_image(saved(image, exif=exif)), pixels)


def test_crop_takes_the_centre_and_squash_takes_all(saved):
    image = Image.new("RGB", (12, 4), GREEN)
    image.paste(RED, (0, 0, 4, 4))
    image.paste(BLUE, (8, 0, 12, 4))
    path = saved(image)
    assert colours(read_image(path, 4)) == [[GREEN] * 4] * 4
    squashed = colours(read_image(path, (4, 3), fit="squash"))[0]
    assert max(squashed[0]) == squashed[0][0] > 200  # some of the neighbour is mixed in
    assert max(squashed[2]) == squashed[2][2] > 200
    tall = saved(image.transpose(Image.Transpose.ROTATE_90), "tall.png")
    assert colours(read_image(tall, 4)) == [[GREEN] * 4] * 4
    assert torch.equal(read_image(path, (4, 12)), read_image(path))


def test_shrinking_smooths(saved):
    """Stripes of one pixel become grey, where taking every second pixel would leave one colour of them."""
    stripes = Image.frombytes("L", (64, 64), bytes([0, 255] * 32 * 64))
    found = read_image(saved(stripes), 32, channels=1).int()
    assert (found[:, :, 1:-1] - 127).abs().max() <= 2


@given(*[st.integers(1, 40)] * 4, st.sampled_from(["crop", "squash"]), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=30)
def test_every_size_becomes_every_size(tmp_path_factory, height, width, new_height, new_width, fit, channels):
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.new("RGB", (width, height), (10, 10, 10)).save(path)
    found = read_image(path, (new_height, new_width), channels=channels, fit=fit)
    assert (found.shape, found.dtype) == ((channels, new_height, new_width), torch.uint8)
    assert found.unique().tolist() == [10]


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_extreme_proportions(saved, size):
    assert read_image(saved(Image.new("RGB", size, RED)), (7, 5)).shape == (3, 7, 5)


def test_no_pixel_is_lost_where_nothing_is_resized(saved):
    pixels, image = picture(height=9, width=9)
    assert torch.equal(read_image(saved(image), 9), pixels)
    assert torch.equal(read_image(saved(image), (9, 9), fit="squash"), pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"size=0, expected \(height, width\) of at least 1"),
        ({"size": (3, -1)}, r"size=\(3, -1\)"),
        ({"size": (3, 3, 3)}, r"size=\(3, 3, 3\)"),
        ({"size": ()}, r"size=\(\)"),
        ({"size": (3,)}, r"size=\(3,\)"),
        ({"channels": 4}, r"channels=4, expected 1 \(grey\) or 3"),
        ({"fit": "stretch"}, r"fit='stretch', expected \"crop\" or \"squash\""),
        ({"largest_pixels": 0}, r"largest_pixels=0, expected at least 1"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match="ImageReader: given " + message):
        ImageReader(**options)


def content(name, image=None):
    file = io.BytesIO()
    (image or picture(height=40, width=60)[1]).save(file, FORMATS[Path(name).suffix])
    return file.getvalue()


def refused(path, message):
    """Reading raises one line that names the file; so does checking, unless it is damaged further on."""
    with pytest.raises(ImageError, match=message) as raised:
        read_image(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_status == 2


def test_a_file_without_a_byte(tmp_path):
    (tmp_path / "a.png").touch()
    refused(tmp_path / "a.png", r"a\.png is empty \(0 bytes\), expected an image")


@pytest.mark.parametrize("words", [b"a recipe for pancakes", b"<svg></svg>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\0" * 99])
def test_a_file_that_is_no_image(tmp_path, words):
    (tmp_path / "a.jpg").write_bytes(words)
    refused(tmp_path / "a.jpg", r"a\.jpg is not an image in one of the formats BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.tif", "a.ppm", "a.webp", "a.gif"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off(tmp_path, name, share):
    whole = content(name)
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    refused(tmp_path / name, "cannot be decoded: |is not an image in one of the formats")


def test_a_jpeg_that_is_cut_off_is_found_when_it_is_decoded(tmp_path):
    (tmp_path / "a.jpg").write_bytes(content("a.jpg")[:-300])
    ImageReader().check(tmp_path / "a.jpg")
    refused(tmp_path / "a.jpg", "cannot be decoded: image file is truncated")


@given(st.sampled_from(["a.jpg", "a.png", "a.bmp", "a.tif", "a.ppm", "a.webp", "a.gif"]), st.data())
@settings(deadline=None, max_examples=30)
def test_damage_anywhere_is_an_error_or_an_image(tmp_path_factory, name, data):
    """Never another exception. A changed byte may be a changed colour: not every format can tell."""
    damaged = bytearray(content(name, picture(height=4, width=6)[1]))
    for _ in range(3):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("images") / name
    path.write_bytes(damaged)
    try:
        outcome = str(tuple(read_image(path, 3, largest_pixels=10_000).shape))
    except ImageError as error:
        outcome = str(error)
    assert outcome == "(3, 3, 3)" or str(path) in outcome


def bomb(width, height):
    """A PNG that claims a size, with no more than a header."""
    return png((b"IHDR", struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""))


def test_a_decompression_bomb(tmp_path, recwarn):
    path = tmp_path / "a.png"
    path.write_bytes(bomb(50_000, 60_000))
    limit = Image.MAX_IMAGE_PIXELS
    message = r"a\.png has 50000 x 60000 pixels, expected at most 100000000 in all; largest_pixels allows more"
    refused(path, message)
    with pytest.raises(ImageError, match=message):
        ImageReader().check(path)
    assert limit == Image.MAX_IMAGE_PIXELS
    assert not recwarn.list


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (0, 0)])
def test_an_image_without_pixels(tmp_path, size):
    """A GIF whose screen and frame are empty."""
    frame = b"," + struct.pack("<4HB", 0, 0, *size, 0) + b"\x02\x02\x4c\x01\0;"
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + struct.pack("<2H3B", *size, 0x80, 0, 0) + bytes(6) + frame)
    refused(tmp_path / "a.gif", r"a\.gif is not an image in one of the formats")


def test_the_limit_is_the_users(saved, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own has no say
    path = saved(picture()[1])
    assert read_image(path, largest_pixels=35).shape == (3, 5, 7)
    with pytest.raises(ImageError, match="has 7 x 5 pixels, expected at most 34"):
        read_image(path, largest_pixels=34)
    assert Image.MAX_IMAGE_PIXELS == 10
    assert not recwarn.list


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "a.png", "cannot read .*: No such file or directory")
    (tmp_path / "b.png").mkdir()
    refused(tmp_path / "b.png", r"b\.png is not a file")
    os.mkfifo(tmp_path / "c.png")
    refused(tmp_path / "c.png", r"c\.png is not a file")
    (tmp_path / "d.png").symlink_to(tmp_path / "e.png")
    (tmp_path / "e.png").symlink_to(tmp_path / "d.png")
    refused(tmp_path / "d.png", "cannot read .*: Too many levels of symbolic links")


def test_a_file_that_may_not_be_read(saved, monkeypatch):
    """An administrator may read everything, so the system is made to refuse."""
    path = saved(picture()[1])

    def refuse(self, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    refused(path, "cannot read .*: Permission denied")


def test_without_pillow(monkeypatch, tmp_path):
    for name in ["PIL", *(name for name in sys.modules if name.startswith("PIL."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r'reading images needs PIL.*pip install "ds-cnn\[images\]"'):
        read_image(tmp_path / "a.png")
