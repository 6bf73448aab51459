"""What a scene of digits is: an image and all that is known of it. Theory: docs/scenes/scenes.md."""

from dataclasses import dataclass

from torch import Tensor

# N = digits of a scene, H, W = height and width of its image


@dataclass(frozen=True)
class Scene:
    """An image and its digits, in the order in which they were drawn: a later one hides what it covers.

    The tensors are those that DETR and MaskFormer take as labels.

    Attributes:
        image: (3, H, W) uint8.
        class_labels: (N,) int64, which digits they are, 0 to 9.
        boxes: (N, 4) float32, around what is seen of each: centre x, centre y, width and height in [0, 1] of the image.
        masks: (N, H, W) bool, the pixels of each that are seen; no two share one.
        colours: their names.
        sizes: their names, "small" and "large" unless others were asked for.
    """

    image: Tensor
    class_labels: Tensor
    boxes: Tensor
    masks: Tensor
    colours: tuple[str, ...]
    sizes: tuple[str, ...]

    def __len__(self) -> int:
        """N."""
        return len(self.colours)

    def detection_labels(self) -> dict[str, Tensor]:
        """One entry of DETR's `labels`."""
        return {"class_labels": self.class_labels, "boxes": self.boxes}
