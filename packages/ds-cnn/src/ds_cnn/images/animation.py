"""Drawings that move: matplotlib figures one after the other as one animated PNG."""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ds_core.errors import needs_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def animated_png(figures: Iterable["Figure"], seconds: float = 0.5) -> bytes:
    """The figures as one animated PNG, which plays for ever wherever a PNG is shown: a notebook, a page on GitHub.

    Each figure is drawn before the next one is asked for, so a generator may change one figure and yield it again.

    Args:
        figures: of equal size.
        seconds: how long each one stays.

    Raises:
        ValueError: there are no figures, or they differ in size.
        MissingPackageError: Pillow is not installed.
    """
    with needs_extra("images", "animations", package="ds-cnn"):
        from PIL import Image
    frames = []
    for figure in figures:
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
        # A palette of 64 colours is enough for drawings, and a quarter of the bytes.
        frames.append(Image.open(drawn).convert("RGB").quantize(64))
    if not frames or any(frame.size != frames[0].size for frame in frames):
        sizes = sorted({frame.size for frame in frames})
        raise ValueError(
            f"animated_png: given figures of {sizes or 'no'} pixels, expected at least one, all of one size"
        )
    file = io.BytesIO()
    duration = round(1000 * seconds)
    frames[0].save(file, format="PNG", save_all=True, append_images=frames[1:], duration=duration, loop=0)
    return file.getvalue()
