"""Windows of adaptive pooling: as many as are asked for, over an axis of any size. Theory: docs/adaptive_windows.md."""

from collections.abc import Sequence

from ds_cnn.convolutions.geometry import Sizes, per_axis

# S = size of an axis of the input, O = of the output


def adaptive_window(o: int, size: int, count: int) -> tuple[int, int]:
    """(start, end) of window o of `count`, end not included."""
    return o * size // count, -(-(o + 1) * size // count)  # floor(o S / O), ceil((o + 1) S / O)              (1)


def adaptive_windows(size: int, count: int) -> list[tuple[int, int]]:
    """All windows of an axis."""
    return [adaptive_window(o, size, count) for o in range(count)]


def longest_window(size: int, count: int) -> int:
    """How many positions the longest window covers."""
    return max(end - start for start, end in adaptive_windows(size, count))


def is_regular(size: Sizes, output_size: Sizes) -> bool:
    """Whether O divides S on every axis, so that all windows are S / O long and lie side by side."""
    return all(s % o == 0 for s, o in zip(size, output_size, strict=True))


def regular_geometry(size: Sizes, output_size: Sizes) -> tuple[Sizes, Sizes, Sizes]:
    """Kernel size, stride and padding of the same windows in ordinary pooling, if they are regular."""
    kernel_size = tuple(s // o for s, o in zip(size, output_size, strict=True))
    return kernel_size, kernel_size, (0,) * len(size)


def read_output_size(
    layer: object, axes: int, output_size: int | Sequence[int | None] | None
) -> tuple[int | None, ...]:
    """One number or None for each axis, from one for all or one for each; None keeps the size of the input.

    Raises:
        ValueError: for another number of axes, or a size below one.
    """
    given = list(output_size) if isinstance(output_size, Sequence) else [output_size] * axes
    try:
        numbers = per_axis([1 if size is None else size for size in given], axes, "output_size")
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ValueError(
            f"{type(layer).__name__}: output_size: given {output_size!r}, expected one whole number of 1 or more"
            + (f", or {axes} of them" if axes > 1 else "")
            + ", or None to keep the size"
        )
    return tuple(None if size is None else number for size, number in zip(given, numbers, strict=True))


def chosen_size(size: Sizes, output_size: tuple[int | None, ...]) -> Sizes:
    """O, where None stands for the size of the input."""
    return tuple(s if o is None else o for s, o in zip(size, output_size, strict=True))
