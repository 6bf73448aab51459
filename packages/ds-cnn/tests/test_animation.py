"""Figures become the frames of one animated PNG."""

import io

import pytest
from ds_cnn import animated_png
from ds_core.plotting import new_figure
from PIL import Image


def figures(count, width=1.0):
    """One figure, drawn on again for each frame."""
    figure = new_figure(width, 1.0)
    axes = figure.add_subplot()
    for number in range(count):
        axes.plot([0, 1], [0, number])
        yield figure


def test_every_figure_is_a_frame():
    image = Image.open(io.BytesIO(animated_png(figures(3), seconds=0.25)))
    assert (image.format, image.n_frames, image.info["duration"], image.info["loop"]) == ("PNG", 3, 250, 0)
    seen = set()
    for number in range(3):
        image.seek(number)
        seen.add(image.convert("RGB").tobytes())
    assert len(seen) == 3


def test_one_size_only():
    with pytest.raises(ValueError, match="all of one size"):
        animated_png([*figures(1), *figures(1, width=2.0)])
    with pytest.raises(ValueError, match="given figures of no pixels"):
        animated_png([])
