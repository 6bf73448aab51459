"""The sizes of a residual network. Theory: docs/resnet.md."""

from dataclasses import dataclass
from typing import Literal

LAYER_TYPES = ("basic", "bottleneck")
REDUCTION = 4  # how much narrower a bottleneck is in its middle


@dataclass(frozen=True)
class ResNetConfig:
    """The sizes of a ResNet, by the names that transformers gives them; the defaults are those of ResNet-50.

    Args:
        layer_type: "basic" or "bottleneck", the blocks of the stages.
        depths: how many blocks each stage has; as many numbers as there are stages.
        hidden_sizes: the channels that each stage ends with.
        embedding_size: the channels of the stem.
        num_channels: of the image.
        downsample_in_first_stage: whether the first stage halves the image once more.
        downsample_in_bottleneck: whether a bottleneck's stride is that of its first convolution, not its second.

    Raises:
        TypeError, ValueError: a size that is not a positive whole number, depths and sizes of different numbers, a
            bottleneck of fewer than 4 channels, an unknown layer type.
    """

    layer_type: Literal["basic", "bottleneck"] = "bottleneck"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    hidden_sizes: tuple[int, ...] = (256, 512, 1024, 2048)
    embedding_size: int = 64
    num_channels: int = 3
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False

    def __post_init__(self) -> None:
        if self.layer_type not in LAYER_TYPES:
            raise ValueError(f"ResNetConfig: layer_type is {self.layer_type!r}, expected one of {[*LAYER_TYPES]}")
        for name in ("depths", "hidden_sizes"):
            sizes = getattr(self, name)
            if not isinstance(sizes, (tuple, list)) or not sizes:
                raise TypeError(f"ResNetConfig: {name} is {sizes!r}, expected a whole number for each stage")
            object.__setattr__(self, name, tuple(sizes))
            for size in sizes:
                _check_size(name, size)
        if len(self.depths) != len(self.hidden_sizes):
            raise ValueError(
                f"ResNetConfig: {len(self.depths)} depths, but {len(self.hidden_sizes)} hidden_sizes, expected one of "
                "each for every stage"
            )
        if self.layer_type == "bottleneck" and min(self.hidden_sizes) < REDUCTION:
            raise ValueError(f"ResNetConfig: hidden_sizes are {self.hidden_sizes}, a bottleneck needs {REDUCTION}")
        for name in ("embedding_size", "num_channels"):
            _check_size(name, getattr(self, name))
        for name in ("downsample_in_first_stage", "downsample_in_bottleneck"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"ResNetConfig: {name} is {getattr(self, name)!r}, expected True or False")


def _check_size(name: str, size: object) -> None:
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"ResNetConfig: {name} has {size!r}, expected a whole number")
    if size < 1:
        raise ValueError(f"ResNetConfig: {name} has {size}, expected at least 1")
