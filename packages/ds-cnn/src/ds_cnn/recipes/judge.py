"""Who says what generated images show: a network that tells the real ones apart. Theory: docs/gan_recipes.md."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from ds_core import AdamW, CrossEntropyLoss, Flatten, Linear, ReLU, Sequential, Trainer, UserError, predict
from ds_core.activations.softmax import softmax
from ds_core.data import Loader, TensorDataset
from ds_core.training.run_folder import read_run_folder
from torch import Tensor

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.recipes.cnn import CNNRun
from ds_cnn.recipes.image_data import ImageData, data_set
from ds_cnn.recipes.trained import load_trained

# N = images, K = classes

CONFIDENT = 0.9
_BATCH = 256


@dataclass(frozen=True)
class Judge:
    """Images (N, C, H, W) of 8 bits -> the probabilities of each class (N, K).

    Attributes:
        accuracy: on test images, which it has not learned.
        sure_of_real: the share of these to which it gives a class with a probability above 0.9.
    """

    probabilities: Callable[[Tensor], Tensor]
    class_names: tuple[str, ...]
    accuracy: float
    sure_of_real: float


@dataclass(frozen=True)
class Verdict:
    """What a judge says of some images.

    Attributes:
        confident: the share of them to which it gives a class with a probability above 0.9.
        by_class: how many of these are of each class, by its name.
    """

    confident: float
    by_class: dict[str, int]

    @property
    def classes(self) -> int:
        """How many classes there are among those."""
        return sum(count > 0 for count in self.by_class.values())


def verdict(judge: Judge, images: Tensor) -> Verdict:
    """Let a judge look at images (N, C, H, W) of 8 bits."""
    likeliest, classes = judge.probabilities(images).max(1)
    sure = classes[likeliest > CONFIDENT]
    counts = torch.bincount(sure, minlength=len(judge.class_names)).tolist()
    return Verdict(len(sure) / len(images), dict(zip(judge.class_names, counts, strict=True)))


def train_judge(data: ImageData, epochs: int, seed: int, device: torch.device) -> Judge:
    """A small network that learns the classes of the training images, the same for the same seed."""
    classes = len(data.format.class_names)
    model = small_network(data.format.channels, data.format.height, data.format.width, classes, seed).to(device)
    normalised = TensorDataset(data.normalise(data.train.tensors[0].to(device)), data.train.tensors[1].to(device))
    batches = Loader(normalised, 64, seed=seed)
    trainer = Trainer(model, CrossEntropyLoss(), AdamW(model.parameters(), lr=2e-3), progress=False)
    trainer.fit(batches, epochs * batches.steps_per_epoch)
    return _judge(model, lambda images: data.normalise(images.to(device)), data)


def load_judge(folder: Path, data: ImageData, data_folder: Path | None, device: str) -> Judge:
    """The network of a run of `ds train cnn`.

    It is measured by its own test images: those of another split it may have learned.

    Raises:
        UserError: the folder holds no such run, or one of another data set.
    """
    began = read_run_folder(folder).recipe
    if began != "cnn":
        raise UserError(f"--judge {folder} holds a run of {began}, expected one of cnn")
    trained = load_trained(CNNRun, folder, "best", device)
    options = trained.options
    if options.images is not None or options.dataset != data.source:
        learned = options.dataset if options.images is None else options.images
        raise UserError(f"--judge {folder} has learned {learned}, expected {data.source}")
    own = data_set(options.dataset, data_folder or options.folder, options.validation, options.test, options.seed, None)
    return _judge(trained.model, trained.normalise, own)


def small_network(channels: int, height: int, width: int, classes: int, seed: int) -> Sequential:
    """Three convolutions, of which the last two halve the image, and a linear layer."""
    generator = torch.Generator().manual_seed(seed)
    return Sequential(
        Conv2d(channels, 16, 3, padding=1, generator=generator),
        ReLU(),
        Conv2d(16, 32, 3, 2, 1, generator=generator),
        ReLU(),
        Conv2d(32, 32, 3, 2, 1, generator=generator),
        ReLU(),
        Flatten(),
        Linear(32 * -(-height // 4) * -(-width // 4), classes, generator=generator),
    )


def _judge(model: Sequential, normalise: Callable[[Tensor], Tensor], data: ImageData) -> Judge:
    def probabilities(images: Tensor) -> Tensor:
        logits: Tensor = predict(model, (normalise(part) for part in torch.split(images, _BATCH)))
        return softmax(logits.float(), 1).cpu()

    images, classes = data.test.tensors
    likeliest, found = probabilities(images).max(1)
    right, sure = (found == classes.cpu()).float().mean(), (likeliest > CONFIDENT).float().mean()
    return Judge(probabilities, data.format.class_names, float(right), float(sure))
