"""Batches of images, changed at random as they are drawn. Theory: docs/augmentation.md."""

from collections.abc import Callable, Sequence
from typing import Any

from ds_core import ShapeError
from ds_core.data.batches import Batches, rows_of_process
from ds_core.data.generators import keyed_generator
from torch import Tensor

from ds_cnn.images.augmentation import Augmentation

_AUGMENT = 2  # second number of the key; a Loader's are 0 and 1


class Augmented:
    """The batches of `batches` with their images augmented: a `Batches` as well.

        batches = Augmented(Loader(train, 128), [RandomCrop(padding=4), RandomHorizontalFlip()], normalise)
        trainer.fit(batches, steps)

    What is drawn for batch `index` is a function of `seed` and `index` alone (`index` counts on from epoch to epoch, so
    that every epoch draws anew). If `batches` are one process's share, the draws are those that its images would have
    in the whole batch: the shares put together are the batch of a single process, bit for bit.

    Args:
        batches: their inputs are images (n, C, H, W), of uint8 or floating.
        augmentations: applied in this order.
        normalise: applied at the end, such as a `Normalise`; what is evaluated is normalised too, and not augmented.
        seed: any whole number of at least 0.

    Raises:
        ValueError: a seed below 0, or batches that are a share of unknown batches.
        ShapeError: by `batch`: inputs that are no images.
    """

    def __init__(
        self,
        batches: Batches,
        augmentations: Sequence[Augmentation] = (),
        normalise: Callable[[Tensor], Tensor] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        if seed < 0:
            raise ValueError(f"Augmented: given seed={seed}, expected at least 0")
        self.batches = batches
        self.augmentations = tuple(augmentations)
        self.normalise = normalise
        self.seed = seed
        self._source = _source_of(batches)
        if getattr(self._source, "world_size", 1) > 1 and not hasattr(self._source, "rows"):
            raise ValueError(
                f"Augmented: given one process's share of the batches of a {type(self._source).__name__}, of which it "
                "is not known how many rows they have: take the share of the augmented batches instead"
            )

    def batch(self, index: int) -> tuple[Any, Any]:
        """Batch `index` >= 0 -> images (n, C, H, W) and their target as it is."""
        images, target = self.batches.batch(index)
        if not isinstance(images, Tensor) or images.dim() != 4:
            given = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
            raise ShapeError(f"Augmented: given inputs of {given}, expected images (n, C, H, W)")
        count, own = self._rows(index, len(images))
        generator = keyed_generator(self.seed, _AUGMENT, index)
        for augmentation in self.augmentations:
            drawn = augmentation.draw(count, tuple(images.shape[1:]), generator)[own]
            images = augmentation.apply(images, drawn.to(images.device))
        return (images if self.normalise is None else self.normalise(images)), target

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, as `batches` has them."""
        steps: int = self.batches.steps_per_epoch  # type: ignore[attr-defined]
        return steps

    def _rows(self, index: int, own: int) -> tuple[int, slice]:
        """How many rows batch `index` has over all processes, and which of them are here."""
        source = self._source
        if getattr(source, "world_size", 1) == 1:
            return own, slice(None)
        count = source.rows(index)
        return count, slice(*rows_of_process(count, source.rank, source.world_size))

    def __repr__(self) -> str:
        return f"Augmented({', '.join(map(repr, self.augmentations))}, normalise={self.normalise}, seed={self.seed})"


def _source_of(batches: Any) -> Any:
    """The object that says whose rows the batches are, which may be inside a `Prefetch`."""
    while not hasattr(batches, "world_size") and hasattr(batches, "batches"):
        batches = batches.batches
    return batches
