"""The part of a residual network that classifiers and detectors share: stem and stages. Theory: docs/resnet.md."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ds_core import Module, ReLU, Sequential, no_record
from ds_core.engine.composition import backward_through, merge_gradients, trainable
from ds_core.initializers import kaiming_normal_, zeros_
from torch import Tensor

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.networks.image_network import check_images
from ds_cnn.networks.residual_block import BasicBlock, Bottleneck, ResidualBlock
from ds_cnn.networks.resnet_config import REDUCTION, ResNetConfig
from ds_cnn.normalisation.batch_norm2d import BatchNorm2d
from ds_cnn.pooling.max_pool import MaxPool2d

# N = batch, C = num_channels, H, W = size of the image


class ResNetStages(Module):
    """Stem (7x7 convolution, norm, ReLU, max pooling) and stages; a subclass makes a forward and a backward of them.

    Args:
        config: the sizes.
        norm: makes a norm of so many channels, given `device` and `dtype`: `BatchNorm2d`, or `FrozenBatchNorm2d`.
        generator: where the initial kernels are drawn from.
    """

    def __init__(
        self,
        config: ResNetConfig,
        *,
        norm: Callable[..., Any] = BatchNorm2d,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        self.frozen_stages: int | None = None
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        channels = config.embedding_size
        self.conv1 = Conv2d(
            config.num_channels, channels, 7, stride=2, padding=3, bias=False, generator=generator, **made
        )
        self.bn1 = norm(channels, **made)
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        for number, (depth, width) in enumerate(zip(config.depths, config.hidden_sizes, strict=True), start=1):
            stride = 2 if number > 1 or config.downsample_in_first_stage else 1
            blocks = []
            for _ in range(depth):
                blocks.append(_block(config, channels, width, stride, norm=norm, generator=generator, **made))
                channels, stride = width, 1
            setattr(self, f"layer{number}", Sequential(*blocks))  # torchvision's name

    def _initialise(self, zero_init_residual: bool, generator: torch.Generator | None) -> None:
        """Draw the kernels as torchvision does, by the outputs of each kernel, whatever its stride."""
        for module in self.modules():
            if isinstance(module, Conv2d):
                kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif zero_init_residual and isinstance(module, ResidualBlock):
                zeros_(module.branch()[-1].weight)

    @property
    def stages(self) -> list[Sequential]:
        """`layer1`, `layer2`, ..."""
        return [getattr(self, f"layer{number}") for number in range(1, len(self.config.depths) + 1)]

    def freeze_stages(self, count: int | None) -> None:
        """Train neither the stem nor the first `count` stages: 0 is the stem alone, None trains all again.

        They then run under `no_record()`, keep nothing for backward and have no work there, and the input gets no
        gradient. Their batch norms still follow the batches in training mode, unless they are `FrozenBatchNorm2d`.

        Raises:
            ValueError: there are not so many stages.
        """
        stages = len(self.config.depths)
        if count is not None and not 0 <= count <= stages:
            raise ValueError(f"freeze_stages: given {count} of {stages} stages, expected 0 to {stages}, or None")
        self.frozen_stages = count
        for number, part in enumerate(self._parts()):
            for tensor in (tensor for layer in part for tensor in layer.parameters()):
                tensor.requires_grad_(count is None or number > count)

    def _parts(self) -> list[list[Any]]:
        """The layers of the stem, and of each stage, in the order of their calls."""
        return [[self.conv1, self.bn1, self.relu, self.maxpool], *[[stage] for stage in self.stages]]

    def _features(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (N, C, H, W) -> the output of each stage."""
        check_images(type(self).__name__, x, self.config.num_channels)
        found = []
        for number, part in enumerate(self._parts()):
            if self.frozen_stages is not None and number <= self.frozen_stages:
                with no_record():
                    x = _through(part, x)
            else:
                x = _through(part, x)
            found.append(x)
        return tuple(found[1:])

    def _features_backward(self, dfeatures: Sequence[Tensor | None], input_gradient: bool) -> Tensor | None:
        """The gradients of the outputs of the stages -> dx; None means zeros."""
        parts = self._parts()
        frozen = 0 if self.frozen_stages is None else self.frozen_stages + 1
        # whose input needs a gradient: all behind the first that trains anything
        first = frozen
        while not input_gradient and first < len(parts) - 1 and not trainable(*parts[first]):
            first += 1
        dx: Tensor | None = None
        for number in reversed(range(frozen, len(parts))):
            if number > 0:
                dx = merge_gradients(dfeatures[number - 1], dx)  # df_i = dy_i + f_(i+1)'^T df_(i+1)            (1)
            needed = number > first or (input_gradient and frozen == 0)
            dx = backward_through(parts[number], dx, input_gradient=needed)
        return dx if input_gradient else None


def _through(layers: Sequence[Any], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer.forward(x)
    return x


def _block(config: ResNetConfig, in_channels: int, out_channels: int, stride: int, **options: Any) -> Any:
    if config.layer_type == "basic":
        return BasicBlock(in_channels, out_channels, stride, **options)
    in_first = config.downsample_in_bottleneck
    return Bottleneck(
        in_channels, out_channels, stride, reduction=REDUCTION, downsample_in_bottleneck=in_first, **options
    )
