"""Where the digits of a scene stand: at random, but so that each stays readable. Theory: docs/scenes/scenes.md."""

from collections.abc import Callable, Sequence

# H, W = size of a scene

Random = Callable[[], float]

_TRIES = 20  # places tried for a digit before all are placed anew
_ROUNDS = 10


def place(
    sizes: Sequence[tuple[int, int]], height: int, width: int, max_overlap: float, cell: int, random: Random
) -> list[tuple[int, int]]:
    """Top and left of rectangles in an image, drawn at random.

    Of each rectangle at most `max_overlap` of the area is shared with the others. If chance finds no such places, each
    gets a cell of a grid to itself.

    Args:
        sizes: height and width of each.
        height, width: H and W; no rectangle reaches beyond.
        max_overlap: 0 to 1.
        cell: side of a cell, at least that of the largest rectangle; there are as many cells as rectangles or more.
        random: draws a number from 0 to 1.
    """
    for _ in range(_ROUNDS):
        places = _at_random(sizes, height, width, max_overlap, random)
        if places is not None:
            return places
    return place_in_cells(sizes, height, width, cell, None, random)


def place_in_cells(
    sizes: Sequence[tuple[int, int]], height: int, width: int, cell: int, jitter: int | None, random: Random
) -> list[tuple[int, int]]:
    """As `place`, but each rectangle in a cell of its own, one that is drawn at random.

    Args:
        jitter: by how many pixels it may be off the cell's middle, if the cell has room for it; None: by any number.
    """
    rows, columns = height // cell, width // cell
    free = [(row, column) for row in range(rows) for column in range(columns)]
    places = []
    for h, w in sizes:
        row, column = free.pop(int(random() * len(free)))
        top = _within(row * height // rows, (row + 1) * height // rows, h, jitter, random)
        left = _within(column * width // columns, (column + 1) * width // columns, w, jitter, random)
        places.append((top, left))
    return places


def _within(begin: int, end: int, length: int, jitter: int | None, random: Random) -> int:
    """Where something of this length begins between two ends."""
    room = end - begin - length
    off = room if jitter is None else jitter
    least, most = max(0, room // 2 - off), min(room, (room + 1) // 2 + off)
    return begin + least + int(random() * (most - least + 1))


def _at_random(
    sizes: Sequence[tuple[int, int]], height: int, width: int, max_overlap: float, random: Random
) -> list[tuple[int, int]] | None:
    places: list[tuple[int, int]] = []
    allowed = [max_overlap * h * w for h, w in sizes]  # pixels of each that may still be shared
    for number, (h, w) in enumerate(sizes):
        for _ in range(_TRIES):
            top, left = int(random() * (height - h + 1)), int(random() * (width - w + 1))
            shared = [
                max(0, min(top + h, y + sizes[other][0]) - max(top, y))
                * max(0, min(left + w, x + sizes[other][1]) - max(left, x))
                for other, (y, x) in enumerate(places)
            ]
            if sum(shared) <= allowed[number] and all(s <= a for s, a in zip(shared, allowed, strict=False)):
                break
        else:
            return None
        for other, pixels in enumerate(shared):
            allowed[other] -= pixels
        allowed[number] -= sum(shared)
        places.append((top, left))
    return places
