"""Batches of scenes, new ones at every step. Theory: docs/scenes/scenes.md."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ds_core.arguments import whole_number
from ds_core.data.batches import rows_of_process
from torch import Tensor

from ds_zoo.scenes.captions import describe
from ds_zoo.scenes.scene import Scene
from ds_zoo.scenes.scenes import Scenes

# B = batch_size, H, W = height and width of an image

Prepare = Callable[[Sequence[Scene]], tuple[Any, Any]]


class SceneBatches:
    """A `Batches`: batch number `index` holds the scenes index * B to index * B + B - 1, so none comes twice.

    If there are several processes, each draws its own rows of the batch that one process would see.

    Args:
        scenes: what is drawn.
        batch_size: B, scenes of a batch, of all processes together.
        prepare: makes a batch, (inputs, target), of its scenes.
        rank, world_size: the number of this process, and how many there are.

    Raises:
        ValueError: an option out of range, or fewer scenes than processes.
    """

    def __init__(
        self, scenes: Scenes, batch_size: int, prepare: Prepare, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self.scenes = scenes
        self.batch_size = whole_number("SceneBatches", "batch_size", batch_size)
        if not 0 <= rank < world_size <= batch_size:
            raise ValueError(
                f"SceneBatches: given rank={rank}, world_size={world_size} and batch_size={batch_size}, expected "
                "0 <= rank < world_size <= batch_size"
            )
        self.prepare = prepare
        self.rank, self.world_size = rank, world_size

    def batch(self, index: int) -> tuple[Any, Any]:
        """Batch number `index`, at least 0, as `prepare` makes it."""
        begin, end = rows_of_process(self.batch_size, self.rank, self.world_size)
        first = index * self.batch_size
        return self.prepare([self.scenes.scene(number) for number in range(first + begin, first + end)])


def stack_images(scenes: Sequence[Scene]) -> Tensor:
    """The images (B, 3, H, W) uint8."""
    return torch.stack([scene.image for scene in scenes])


def detection_labels(scenes: Sequence[Scene]) -> list[dict[str, Tensor]]:
    """DETR's `labels`: class_labels (N,) and boxes (N, 4) of each scene."""
    return [scene.detection_labels() for scene in scenes]


def segmentation_labels(scenes: Sequence[Scene]) -> dict[str, list[Tensor]]:
    """MaskFormer's labels: `mask_labels` (N, H, W) of 0 and 1, one segment a digit, and `class_labels` (N,)."""
    return {
        "mask_labels": [scene.masks.to(torch.get_default_dtype()) for scene in scenes],
        "class_labels": [scene.class_labels for scene in scenes],
    }


def classified(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) uint8 and classes (B,) of scenes with one digit each.

    Raises:
        ValueError: a scene has none, or several.
    """
    for number, scene in enumerate(scenes):
        if len(scene) != 1:
            raise ValueError(
                f"classified: scene {number} has {len(scene)} digits, expected one in each: Scenes(count=1)"
            )
    return stack_images(scenes), torch.cat([scene.class_labels for scene in scenes])


def captioned(scenes: Sequence[Scene]) -> tuple[Tensor, list[str]]:
    """Images (B, 3, H, W) uint8 and their captions."""
    return stack_images(scenes), [describe(scene) for scene in scenes]


def with_distinct_captions(scenes: Scenes, count: int) -> list[Scene]:
    """The first `count` scenes that are all described differently: who finds one by its caption is right or wrong.

    Raises:
        ValueError: there are not as many among a thousand times as many.
    """
    found: dict[str, Scene] = {}
    for index in range(1000 * count):
        scene = scenes.scene(index)
        found.setdefault(describe(scene), scene)
        if len(found) == count:
            return list(found.values())
    raise ValueError(
        f"with_distinct_captions: given count={count}, but {scenes} have only {len(found)} captions: allow more "
        "digits, colours or sizes"
    )
