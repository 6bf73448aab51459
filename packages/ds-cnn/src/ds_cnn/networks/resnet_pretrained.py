"""A ResNet in the folder format of Hugging Face's transformers. Theory: docs/resnet_pretrained.md."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ds_core import CheckpointError, Module
from ds_core.training.pretrained_files import Key, by_their_names, read_config, write_folder
from torch import Tensor

from ds_cnn.networks.batch_counters import with_counters
from ds_cnn.networks.image_classification import PROBLEM_TYPES, ImageClassificationLoss, ImageClassifierOutput
from ds_cnn.networks.resnet_config import ResNetConfig
from ds_cnn.networks.resnet_keys import transformers_key

# N = batch, C = num_channels, H, W = size of the image, K = num_labels

ARCHITECTURE = "ResNetForImageClassification"
# Fields that change the mathematics, and the one value of each that ResNet computes; absent they have that value
_FIXED: dict[str, Any] = {"model_type": "resnet", "architectures": [ARCHITECTURE], "hidden_act": "relu"}


@dataclass(frozen=True)
class Labels:
    """What config.json says of the classes.

    Attributes:
        names: of the classes, in order.
        problem_type: which loss is taken: see `ImageClassificationLoss`.
    """

    names: tuple[str, ...] = field(default=("LABEL_0", "LABEL_1"))
    problem_type: str | None = None

    @classmethod
    def numbered(cls, count: int) -> "Labels":
        """The names that transformers gives to classes without names."""
        return cls(tuple(f"LABEL_{number}" for number in range(count)))


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

    def forward(self, pixel_values: Tensor) -> ImageClassifierOutput:
        """pixel_values (N, C, H, W) -> logits (N, K)."""
        return ImageClassifierOutput(logits=self.network.forward(pixel_values))

    def backward(self, gradients: ImageClassifierOutput | None, *, input_gradient: bool = True) -> Tensor | None:
        """The gradients of the outputs -> dpixel_values (N, C, H, W)."""
        dlogits = None if gradients is None else gradients.logits
        dx: Tensor | None = self.network.backward(dlogits, input_gradient=input_gradient)
        return dx

    def criterion(self) -> ImageClassificationLoss:
        """The loss that transformers computes for this model: `criterion(model(pixel_values=x), labels=y)`."""
        return ImageClassificationLoss(self.network.num_classes, self.labels.problem_type)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers reads them.

        Raises:
            WriteError: the folder cannot be written.
        """
        dtype = str(self.network.fc.weight.dtype).removeprefix("torch.")
        write_folder(folder, to_hugging_face(self.network.config, self.labels) | {"dtype": dtype}, self.tensors())

    def tensors(self) -> dict[str, Tensor]:
        """What model.safetensors holds: every parameter and buffer by transformers' name."""
        state = self.network.state_dict()
        return with_counters(by_their_names(state, keys_of(state)))


def keys_of(names: Iterable[str]) -> dict[str, Key]:
    """Our name of each tensor -> transformers'."""
    return {name: Key(transformers_key(name)) for name in names}


def to_hugging_face(config: ResNetConfig, labels: Labels) -> dict[str, Any]:
    """The config.json that transformers reads as a ResNet of these sizes."""
    names = labels.names
    return {
        **_FIXED,
        **{name: list(size) if isinstance(size, tuple) else size for name, size in asdict(config).items()},
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": labels.problem_type,
    }


def from_hugging_face(given: Mapping[str, Any]) -> tuple[ResNetConfig, Labels]:
    """Read transformers' config.json of a ResNet.

    Raises:
        TypeError, ValueError: another model, or one with an option or a size that `ResNet` does not have.
    """
    for name, value in _FIXED.items():
        if given.get(name) not in (None, value):
            raise ValueError(f"{name} is {given[name]!r}, but ResNet reads only {value!r}")
    sizes = {item.name: given[item.name] for item in fields(ResNetConfig) if item.name in given}
    return ResNetConfig(**sizes), _labels(given)


def read_resnet_config(folder: str | Path) -> tuple[ResNetConfig, Labels]:
    """`from_hugging_face` of a folder.

    Raises:
        CheckpointError: config.json is missing or damaged, or of a model that `ResNet` is not.
    """
    given = read_config(folder)
    try:
        return from_hugging_face(given)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{Path(folder) / 'config.json'}: {error}") from error


def _labels(given: Mapping[str, Any]) -> Labels:
    problem_type = given.get("problem_type")
    if problem_type not in PROBLEM_TYPES:
        known = [name for name in PROBLEM_TYPES if name]
        raise ValueError(f"problem_type is {problem_type!r}, expected one of {known}, or null")
    names = given.get("id2label")
    if names is None:
        count = given.get("num_labels", 2)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"num_labels is {count!r}, expected a positive whole number")
        return Labels(Labels.numbered(count).names, problem_type)
    if not isinstance(names, dict) or not names or {str(number) for number in range(len(names))} != set(names):
        raise ValueError(f"id2label is {names!r:.80}, expected a name for each of the classes 0, 1, ...")
    return Labels(tuple(str(names[str(number)]) for number in range(len(names))), problem_type)
