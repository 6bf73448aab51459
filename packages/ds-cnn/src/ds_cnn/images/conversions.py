"""What Pillow opens as upright, opaque images of 8 bits and one size. The rules: docs/images.md."""

from typing import TYPE_CHECKING, Literal

import torch
from ds_core.errors import needs_extra

if TYPE_CHECKING:
    from PIL.Image import Image

Fit = Literal["crop", "squash"]

_ORIENTATION = 0x0112  # the EXIF tag: how the camera was held
_TRANSPARENT = {"LA", "PA", "RGBA", "RGBa"}
_LARGEST_16 = 2**16 - 1


def upright(image: "Image") -> "Image":
    """Turned or mirrored as EXIF says. An orientation that is not readable, or not of 1 to 8, is none."""
    with needs_extra("images", "reading images", package="ds-cnn"):
        from PIL import Image

    if image.format == "TIFF":  # whose pixels Pillow turns itself, and some versions leave the tag there
        return image
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block is no damage to the image
        return image
    return image if turn is None else image.transpose(turn)


def of_8_bits(image: "Image") -> "Image":
    """Grey of 16 bits, 0 to 65,535, and floating-point grey, 0 to 1, scaled to 0 to 255; others as they are.

    Raises:
        ValueError: grey values outside of these ranges.
    """
    from PIL import Image

    if image.mode == "F":
        grey = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.float32)
        if not bool(((grey >= 0) & (grey <= 1)).all()):  # nor NaN
            raise ValueError("it has floating-point values outside of 0 to 1")
        scaled = (grey.double() * 255 + 0.5).floor()
    elif image.mode == "I" or image.mode.startswith("I;16"):
        integers = torch.frombuffer(bytearray(image.convert("I").tobytes()), dtype=torch.int32)
        if not bool(((integers >= 0) & (integers <= _LARGEST_16)).all()):
            raise ValueError(f"it has grey values outside of 0 to {_LARGEST_16}")
        scaled = (integers + 128) // 257  # 65535 / 255 = 257, rounded to the nearest
    else:
        return image
    return Image.frombytes("L", image.size, scaled.to(torch.uint8).numpy().tobytes())


def on_white(image: "Image") -> "Image":
    """What is transparent, in part or by one colour of a palette, laid on white; others as they are."""
    from PIL import Image

    if image.mode not in _TRANSPARENT and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def resized(image: "Image", height: int, width: int, fit: Fit) -> "Image":
    """To height x width, smoothed where it shrinks (a triangle as wide as a new pixel to each side)."""
    from PIL import Image

    if image.mode in ("1", "P"):  # no colour lies between two numbers of a palette
        image = image.convert("L" if image.mode == "1" else "RGB")
    left, top, right, bottom = 0.0, 0.0, float(image.width), float(image.height)
    if fit == "crop":
        scale = min(image.width / width, image.height / height)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        left, top = max(left, 0.0), max(top, 0.0)
        right, bottom = image.width - left, image.height - top
    box = (left, top, right, bottom)
    return Image.Image.resize(image, (width, height), Image.Resampling.BILINEAR, box)
