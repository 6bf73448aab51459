"""Where training data comes from: batch `index` is a pure function of a seed and `index`. Theory: docs/data.md."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Batches(Protocol):
    """An endless sequence of batches that can be entered anywhere.

    The position in the data is then just a number, so a resumed run, a repeated
    step and several processes see the same batches whatever was drawn before.
    """

    def batch(self, index: int) -> tuple[Any, Any]:
        """Batch `index` >= 0 as (inputs, target); inputs is what the model is called with, a tuple being several.

        Draw from a generator of its own, seeded by (seed, index), never from the shared one.
        """
        ...


def rows_of_process(count: int, rank: int, world_size: int) -> tuple[int, int]:
    """Which of the n = `count` rows of a batch process `rank` takes: the first one's index, and the last one's + 1.

    The parts of the W = `world_size` processes follow each other. The first n mod W of them are a row longer.
    """
    short, longer = divmod(count, world_size)
    begin = rank * short + min(rank, longer)  # r floor(n / W) + min(r, n mod W)                          (2)
    return begin, begin + short + (rank < longer)
