"""ResNet-18 to -152, as classifiers and as backbones of detectors. Theory: docs/resnet.md."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ds_core import Flatten, Linear
from ds_core.arguments import whole_number
from ds_core.engine.composition import backward_through
from ds_core.training.pretrained_files import read_folder, read_tensors, write_tensors
from ds_core.training.pretrained_weights import fit_tensors, load_model
from torch import Tensor

from ds_cnn.networks.batch_counters import with_counters, with_expected_counters
from ds_cnn.networks.resnet_config import ResNetConfig
from ds_cnn.networks.resnet_pretrained import ResNetForImageClassification, keys_of, read_resnet_config
from ds_cnn.networks.resnet_stages import ResNetStages
from ds_cnn.normalisation.batch_norm2d import BatchNorm2d
from ds_cnn.pooling.adaptive_avg_pool import AdaptiveAvgPool2d

# N = batch, C = channels of the image, H, W = its size, K = num_classes, F_i = hidden_sizes[i]

_SMALL, _LARGE = (64, 128, 256, 512), (256, 512, 1024, 2048)
# The paper's table 1
CONFIGS: Mapping[str, ResNetConfig] = {
    "resnet18": ResNetConfig("basic", (2, 2, 2, 2), _SMALL),
    "resnet34": ResNetConfig("basic", (3, 4, 6, 3), _SMALL),
    "resnet50": ResNetConfig("bottleneck", (3, 4, 6, 3), _LARGE),
    "resnet101": ResNetConfig("bottleneck", (3, 4, 23, 3), _LARGE),
    "resnet152": ResNetConfig("bottleneck", (3, 8, 36, 3), _LARGE),
}


class ResNetBackbone(ResNetStages):
    """The outputs of a ResNet's stages, at 1/4, 1/8, 1/16 and 1/32 of the image's size, for detection and segmentation.

    Arguments are those of `ResNet` without `num_classes`.
    """

    def __init__(
        self,
        config: ResNetConfig,
        *,
        norm: Callable[..., Any] = BatchNorm2d,
        zero_init_residual: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(config, norm=norm, device=device, dtype=dtype, generator=generator)
        self._initialise(zero_init_residual, generator)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (N, C, H, W) -> for each stage i (N, F_i, H / 2^(i+2), W / 2^(i+2)), i = 0, 1, ..."""
        return self._features(x)

    def backward(self, *dfeatures: Tensor | None, input_gradient: bool = True) -> Tensor | None:
        """The gradient of each stage's output, None where it is not used, trailing ones may be left out -> dx."""
        missing = len(self.stages) - len(dfeatures)
        if missing < 0:
            raise TypeError(f"ResNetBackbone of {len(self.stages)} stages: given {len(dfeatures)} gradients")
        return self._features_backward([*dfeatures, *[None] * missing], input_gradient)

    def load_torchvision(self, file: str | Path) -> None:
        """Read all but the head of what torchvision or `save_torchvision` wrote; see `ResNet.load_torchvision`."""
        _load_torchvision(self, file, head=False)


class ResNet(ResNetStages):
    """Stem, stages, the mean over all positions, a linear layer: an image -> logits, one for each class.

    He et al., "Deep Residual Learning for Image Recognition", 2015. Names and shapes of the parameters, and their first
    values, are torchvision's. Made by `resnet18()` ... `resnet152()`, or of sizes of one's own.

    Args:
        config: the sizes.
        num_classes: K.
        norm: makes a norm of so many channels, given `device` and `dtype`: `BatchNorm2d`, or `FrozenBatchNorm2d`.
        zero_init_residual: whether the last norm of each block begins with weight 0, so that at first the block hands
            its input on (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1).
        generator: where the initial weights are drawn from.

    Raises:
        TypeError, ValueError: `num_classes` is no whole number of 1 or more.
        ShapeError: from `forward`, for an image of another shape or dtype.
    """

    def __init__(
        self,
        config: ResNetConfig,
        num_classes: int = 1000,
        *,
        norm: Callable[..., Any] = BatchNorm2d,
        zero_init_residual: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(config, norm=norm, device=device, dtype=dtype, generator=generator)
        self.num_classes = whole_number("ResNet", "num_classes", num_classes)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(config.hidden_sizes[-1], num_classes, device=device, dtype=dtype, generator=generator)
        self._initialise(zero_init_residual, generator)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> logits (N, K)."""
        features = self._features(x)[-1]
        return self.fc.forward(self.flatten.forward(self.avgpool.forward(features)))

    def backward(self, dlogits: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dlogits (N, K) -> dx (N, C, H, W), or None without `input_gradient`."""
        stages = len(self.stages)
        head = [self.avgpool, self.flatten, self.fc]
        dfeatures = backward_through(head, dlogits, input_gradient=self.frozen_stages != stages)
        return self._features_backward([*[None] * (stages - 1), dfeatures], input_gradient)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ResNetForImageClassification:
        """Read a ResNetForImageClassification that transformers or `save_pretrained` wrote; docs/resnet_pretrained.md.

        Args:
            dtype: what the weights are cast to; by default they keep the file's.

        Returns:
            The network, `.network`, in a layer with transformers' arguments and outputs by name.

        Raises:
            CheckpointError: a file is missing or damaged, or holds a model that ResNet cannot compute.
        """
        config, labels = read_resnet_config(folder)
        tensors = read_folder(folder)
        if not any(name.endswith(".num_batches_tracked") for name in tensors):
            tensors = with_counters(tensors)
        network: ResNet = load_model(
            folder,
            lambda: cls(config, len(labels.names), device="meta"),
            sum(config.depths),
            tensors,
            keys_of,
            device=device,
            dtype=dtype,
        )
        return ResNetForImageClassification(network, labels).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers reads them.

        Raises:
            WriteError: the folder cannot be written.
        """
        ResNetForImageClassification(self).save_pretrained(folder)

    def load_torchvision(self, file: str | Path, *, head: bool = True) -> None:
        """Read weights that torchvision made, or `save_torchvision`, from a safetensors file.

        Args:
            head: whether the linear layer is read too; False keeps this network's own, of any number of classes.

        Raises:
            CheckpointError: the file is missing, damaged or a pickle, or of another model; nothing has been loaded.
        """
        _load_torchvision(self, file, head)

    def save_torchvision(self, file: str | Path) -> None:
        """Write the weights as a safetensors file by torchvision's names.

        Raises:
            WriteError: it cannot be written.
        """
        write_tensors(file, with_counters(self.state_dict()))


def _load_torchvision(network: ResNetStages, file: str | Path, head: bool) -> None:
    left_out = () if head else ("fc.",)
    tensors, expected = (
        {name: tensor for name, tensor in named.items() if not name.startswith(left_out)}
        for named in (read_tensors(file), network.state_dict())
    )
    network.load_state_dict(fit_tensors(file, with_expected_counters(tensors, expected), expected), strict=head)


def resnet18(num_classes: int = 1000, channels: int = 3, **options: Any) -> ResNet:
    """Two basic blocks in each of four stages, 11.7 million parameters; `options` are those of `ResNet`."""
    return _resnet("resnet18", num_classes, channels, options)


def resnet34(num_classes: int = 1000, channels: int = 3, **options: Any) -> ResNet:
    """3, 4, 6 and 3 basic blocks, 21.8 million parameters; `options` are those of `ResNet`."""
    return _resnet("resnet34", num_classes, channels, options)


def resnet50(num_classes: int = 1000, channels: int = 3, **options: Any) -> ResNet:
    """3, 4, 6 and 3 bottlenecks, 25.6 million parameters; `options` are those of `ResNet`."""
    return _resnet("resnet50", num_classes, channels, options)


def resnet101(num_classes: int = 1000, channels: int = 3, **options: Any) -> ResNet:
    """3, 4, 23 and 3 bottlenecks, 44.5 million parameters; `options` are those of `ResNet`."""
    return _resnet("resnet101", num_classes, channels, options)


def resnet152(num_classes: int = 1000, channels: int = 3, **options: Any) -> ResNet:
    """3, 8, 36 and 3 bottlenecks, 60.2 million parameters; `options` are those of `ResNet`."""
    return _resnet("resnet152", num_classes, channels, options)


def _resnet(name: str, num_classes: int, channels: int, options: dict[str, Any]) -> ResNet:
    return ResNet(replace(CONFIGS[name], num_channels=channels), num_classes, **options)
