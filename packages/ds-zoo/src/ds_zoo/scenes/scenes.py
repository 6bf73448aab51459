"""Scenes of handwritten digits, composed on the fly. Theory: docs/scenes/scenes.md."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from ds_core.arguments import real_number, whole_number
from ds_core.errors import did_you_mean
from torch import Tensor

from ds_zoo.scenes.digits import CLASSES, PARTS, Part, load_digits
from ds_zoo.scenes.drawing import INK, Array, drawn_digits
from ds_zoo.scenes.palette import COLOURS, SIZES, DigitSize
from ds_zoo.scenes.placement import place, place_in_cells
from ds_zoo.scenes.scene import Scene
from ds_zoo.scenes.textures import Textures

# N = digits of a scene, H, W = height and width of its image

_JITTER = 12.0  # how far each channel of a colour may be from that of its name
_SMALLEST = 8  # pixels; below, nobody can read a digit of 8 x 8 values


class Scenes:
    """An endless sequence of scenes: `scenes.scene(index)` is a function of the seed, the part and `index` alone.

    Args:
        image_size: (H, W), or one number for both.
        count: how many digits a scene has, (least, most), each number as often; one number: always as many.
        sizes: which there are, each as often; see `DigitSize`.
        colours: names of `COLOURS`, each as often.
        part: whether the digits are those for "training", or those "held_out", which training never sees.
        max_overlap: how much of a digit's rectangle may be shared with other ones, 0 to 0.5.
        jitter: None: digits stand anywhere. A number of pixels: the image is divided into cells that hold the largest
            digit, and each digit stands in the middle of one of them, or at most so many pixels off: easier to learn.
        seed: any whole number of at least 0.

    Raises:
        ValueError: an option out of range; digits larger than the image, or more of them than find room beside each
            other.
        TypeError: an option of another type.
        MissingPackageError: scikit-learn is not installed.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 64,
        count: int | tuple[int, int] = (1, 4),
        *,
        sizes: Sequence[DigitSize] = SIZES,
        colours: Sequence[str] = tuple(COLOURS),
        part: Part = "training",
        max_overlap: float = 0.1,
        jitter: int | None = None,
        seed: int = 0,
    ) -> None:
        self.height, self.width = _pair("image_size", image_size, 1)
        self.count = _pair("count", count, 0)
        self.sizes = _checked_sizes(sizes)
        self.colours = _checked_colours(colours)
        if part not in PARTS:
            raise ValueError(f"Scenes: given part={part!r}, expected one of {list(PARTS)}")
        if not 0 <= real_number("Scenes", "max_overlap", max_overlap) <= 0.5:
            raise ValueError(
                f"Scenes: given max_overlap={max_overlap}, expected 0 to 0.5, so that digits stay readable"
            )
        self.part = part
        self.max_overlap = max_overlap
        self.jitter = None if jitter is None else whole_number("Scenes", "jitter", jitter, 0)
        self.seed = whole_number("Scenes", "seed", seed, 0)
        self._check_room()
        self._of_class = load_digits(part).of_class
        self._textures = Textures(self.height, self.width)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{size.name} {size.least} to {size.most}" for size in self.sizes)
        return (
            f"Scenes({self.height} x {self.width}, {self.count[0]} to {self.count[1]} digits, {sizes} pixels, "
            f"part={self.part!r}, seed={self.seed})"
        )

    def __iter__(self) -> Iterator[Scene]:
        """All scenes from number 0 on; it never ends."""
        index = 0
        while True:
            yield self.scene(index)
            index += 1

    def scene(self, index: int) -> Scene:
        """Scene number `index`, at least 0."""
        generator = np.random.default_rng((self.seed, PARTS.index(self.part), index))
        random = generator.random
        least, most = self.count
        number = least + int(random() * (most - least + 1))
        colours = [self.colours[int(random() * len(self.colours))] for _ in range(number)]
        sizes = [self.sizes[int(random() * len(self.sizes))] for _ in range(number)]
        labels = [int(random() * CLASSES) for _ in range(number)]
        ink = []
        for label, size in zip(labels, sizes, strict=True):
            of_class = self._of_class[label]
            side = size.least + int(random() * (size.most - size.least + 1))
            ink.append(drawn_digits(self.part, side)[of_class[int(random() * len(of_class))]])
        shapes = [(digit.shape[0], digit.shape[1]) for digit in ink]
        if self.jitter is None:
            places = place(shapes, self.height, self.width, self.max_overlap, self._largest, random)
        else:
            places = place_in_cells(shapes, self.height, self.width, self._largest, self.jitter, random)
        canvas = self._textures.background(generator)
        masks = np.zeros((number, self.height, self.width), np.bool_)
        for drawn, (digit, colour, (top, left)) in enumerate(zip(ink, colours, places, strict=True)):
            rows, columns = slice(top, top + digit.shape[0]), slice(left, left + digit.shape[1])
            paint = np.array(COLOURS[colour], np.float32) + (generator.random(3, np.float32) - 0.5) * (2 * _JITTER)
            _paint(canvas[:, rows, columns], digit, paint)
            solid = digit >= INK
            masks[:drawn, rows, columns] &= ~solid
            masks[drawn, rows, columns] = solid
        canvas += self._textures.grain(generator)
        return Scene(
            image=torch.from_numpy(np.clip(canvas, 0, 255).astype(np.uint8)),
            class_labels=torch.from_numpy(np.array(labels, np.int64)),
            boxes=boxes_around(masks),
            masks=torch.from_numpy(masks),
            colours=tuple(colours),
            sizes=tuple(size.name for size in sizes),
        )

    @property
    def _largest(self) -> int:
        return max(size.most for size in self.sizes)

    def _check_room(self) -> None:
        largest, most = self._largest, self.count[1]
        size = f"{self.height} x {self.width}"
        if largest > min(self.height, self.width):
            raise ValueError(
                f"Scenes: given digits of up to {largest} pixels and images of {size}, expected digits no larger than "
                "the image: take a larger image_size or smaller sizes"
            )
        room = (self.height // largest) * (self.width // largest)
        if most > room:
            raise ValueError(
                f"Scenes: given up to {most} digits of up to {largest} pixels, but only {room} of them are sure to "
                f"find room beside each other in an image of {size}: take fewer, smaller sizes or a larger image_size"
            )


def _paint(canvas: Array, ink: Array, colour: Array) -> None:
    """Lay a colour (3,) on a part of the image (3, h, w), as opaque as `ink` (h, w) says."""
    canvas += (colour[:, None, None] - canvas) * ink


def boxes_around(masks: npt.NDArray[np.bool_]) -> Tensor:
    """(N, H, W), each with a pixel or more -> (N, 4): the smallest boxes around them, as `Scene.boxes`."""
    count, height, width = masks.shape
    if count == 0:
        return torch.zeros(0, 4)
    rows, columns = np.logical_or.reduce(masks, 2), np.logical_or.reduce(masks, 1)
    ends = (rows.argmax(1), rows[:, ::-1].argmax(1), columns.argmax(1), columns[:, ::-1].argmax(1))
    boxes = []
    for top, below, left, beside in zip(*(end.tolist() for end in ends), strict=True):
        right, bottom = width - beside, height - below
        x, y = (left + right) / (2 * width), (top + bottom) / (2 * height)
        boxes.append((x, y, (right - left) / width, (bottom - top) / height))
    return torch.tensor(boxes, dtype=torch.float32)


def _pair(name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"Scenes: given {name}={value}, expected one whole number or two")
    first, second = (whole_number("Scenes", name, number, least) for number in pair)
    if name == "count" and first > second:
        raise ValueError(f"Scenes: given count={value}, expected (least, most)")
    return first, second


def _checked_sizes(sizes: Sequence[DigitSize]) -> tuple[DigitSize, ...]:
    checked = []
    for size in sizes:
        name, least, most = size
        whole_number("Scenes", f"sizes, {name!r},", least, _SMALLEST)
        if whole_number("Scenes", f"sizes, {name!r},", most, _SMALLEST) < least:
            raise ValueError(f"Scenes: given {name} digits of {least} to {most} pixels, expected (name, least, most)")
        checked.append(DigitSize(name, least, most))
    names = [size.name for size in checked]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"Scenes: given sizes named {names}, expected one or more with different names")
    return tuple(checked)


def _checked_colours(colours: Sequence[str]) -> tuple[str, ...]:
    if isinstance(colours, str):
        colours = (colours,)
    for colour in colours:
        if colour not in COLOURS:
            near = did_you_mean(str(colour), COLOURS)
            raise ValueError(f"Scenes: given the colour {colour!r}, expected one of {list(COLOURS)}{near}")
    if len(set(colours)) < max(1, len(colours)):
        raise ValueError(f"Scenes: given colours={list(colours)}, expected one or more, none of them twice")
    return tuple(colours)
