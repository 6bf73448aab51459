"""Where training data comes from: batch number `index` is a pure function of a seed and `index`."""

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
