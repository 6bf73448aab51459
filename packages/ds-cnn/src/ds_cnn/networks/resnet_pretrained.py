"""A ResNet in the folder format of Hugging Face's transformers. Theory: docs/resnet_pretrained.md."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ds_core import ClassifierLoss, ClassifierOutput, Module
from ds_core.training.pretrained_files import check_fixed, read_config_as, write_folder
from ds_core.training.pretrained_labels import Labels
from ds_core.training.pretrained_weights import Key, by_their_names
from torch import Tensor

from ds_cnn.networks.batch_counters import with_counters
from ds_cnn.networks.resnet_config import ResNetConfig
from ds_cnn.networks.resnet_keys import transformers_key

# N = batch, C = num_channels, H, W = size of the image, K = num_labels

ARCHITECTURE = "ResNetForImageClassification"
# Fields that change the mathematics, and the one value of each that ResNet computes; it is that of absent fields too
_FIXED: dict[str, Any] = {"model_type": "resnet", "architectures": [ARCHITECTURE], "hidden_act": "relu"}


class ResNetForImageClassification(Module):
    """A `ResNet` with transformers' arguments, outputs, loss and files: what `ResNet.from_pretrained` returns.

    The network itself, from images to a plain tensor of logits, is the attribute `network`.

    Args:
        network: the `ResNet`.
        labels: the names of its classes, and which loss is theirs.
    """

    def __init__(self, network: Any, labels: Labels | None = None) -> None:
        self.network = network
        self.labels = Labels.numbered(network.num_classes) if labels is None else labels

    def forward(self, pixel_values: Tensor) -> ClassifierOutput:
        """pixel_values (N, C, H, W) -> logits (N, K)."""
        return ClassifierOutput(logits=self.network.forward(pixel_values))

    def backward(self, gradients: ClassifierOutput | None, *, input_gradient: bool = True) -> Tensor | None:
        """The gradients of the outputs -> dpixel_values (N, C, H, W)."""
        dlogits = None if gradients is None else gradients.logits
        dx: Tensor | None = self.network.backward(dlogits, input_gradient=input_gradient)
        return dx

    def criterion(self) -> ClassifierLoss:
        """The loss that transformers computes for this model: `criterion(model(pixel_values=x), labels=y)`."""
        return ClassifierLoss(self.network.num_classes, self.labels.problem_type)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers reads them.

        Raises:
            WriteError: the folder cannot be written.
        """
        write_folder(folder, to_hugging_face(self.network.config, self.labels), self.tensors())

    def tensors(self) -> dict[str, Tensor]:
        """What model.safetensors holds: every parameter and buffer by transformers' name."""
        state = self.network.state_dict()
        return with_counters(by_their_names(state, keys_of(state)))


def keys_of(names: Iterable[str]) -> dict[str, Key]:
    """Our name of each tensor -> transformers'."""
    return {name: Key(transformers_key(name)) for name in names}


def to_hugging_face(config: ResNetConfig, labels: Labels) -> dict[str, Any]:
    """The config.json that transformers reads as a ResNet of these sizes."""
    return {
        **_FIXED,
        **{name: list(size) if isinstance(size, tuple) else size for name, size in asdict(config).items()},
        **labels.fields(),
    }


def from_hugging_face(given: Mapping[str, Any]) -> tuple[ResNetConfig, Labels]:
    """Read transformers' config.json of a ResNet.

    Raises:
        TypeError, ValueError: another model, or one with an option or a size that `ResNet` does not have.
    """
    check_fixed("ResNet", given, {name: (value, None) for name, value in _FIXED.items()})
    sizes = {item.name: given[item.name] for item in fields(ResNetConfig) if item.name in given}
    return ResNetConfig(**sizes), Labels.from_config(given)


def read_resnet_config(folder: str | Path) -> tuple[ResNetConfig, Labels]:
    """`from_hugging_face` of a folder.

    Raises:
        CheckpointError: config.json is missing or damaged, or of a model that `ResNet` is not.
    """
    return read_config_as(folder, from_hugging_face)
