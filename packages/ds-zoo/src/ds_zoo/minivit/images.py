"""The images that `ds train minivit` learns: those of the image recipes, or scenes."""

import copy
from dataclasses import replace
from pathlib import Path

import torch
from ds_cnn import Normalise
from ds_cnn.recipes.image_data import ImageData, read_images
from ds_cnn.recipes.image_format import ImageFormat
from ds_core import UserError
from ds_core.data import TensorDataset
from ds_core.training.same_data import digest_of

from ds_zoo.minivit.options import SCENES, MiniViTOptions
from ds_zoo.minivit.pretrained import read_vit_config
from ds_zoo.scenes import Scenes, classified
from ds_zoo.scenes.digits import Part
from ds_zoo.vision.image_processor import FILE as PREPROCESSOR_FILE
from ds_zoo.vision.image_processor import ImageProcessor

_SCENE_SIZE = 32
_SCENES = {"train": 8000, "validation": 500, "test": 1000}


def images_to_learn(options: MiniViTOptions, dtype: torch.dtype | None) -> ImageData:
    """The images that the options name.

    To fine-tune a model, grey ones become colours if it sees colours; image files get the size that it was trained on;
    and colours are normalised as its preprocessor_config.json says, if it has one.

    Raises:
        UserError: they cannot be had, or are in colours and the model sees grey ones.
    """
    folder = options.from_pretrained
    pretrained = None if folder is None else read_vit_config(folder)[0]
    if options.dataset == SCENES and options.images is None:
        data = scene_images(options.seed, dtype)
    elif pretrained is not None and options.images is not None:
        options = copy.copy(options)
        options.image_size = options.image_size or pretrained.image_size
        options.grey = options.grey or pretrained.num_channels == 1
        data = read_images(options, dtype)
    else:
        data = read_images(options, dtype)
    if folder is None or pretrained is None:
        return data
    data = _in_channels(data, pretrained.num_channels)
    if (folder / PREPROCESSOR_FILE).exists():
        return _normalised_as(data, ImageProcessor.from_pretrained(folder), folder)
    return data


def scene_images(seed: int, dtype: torch.dtype | None) -> ImageData:
    """Scenes of one digit, whose class is that digit; those of the test show digits that training never saw."""

    def part_of(name: str, part: Part, index: int) -> TensorDataset:
        # three seeds from one, so that no two parts or runs share a scene
        scenes = Scenes(_SCENE_SIZE, 1, part=part, seed=3 * seed + index)
        return TensorDataset(*classified([scenes.scene(number) for number in range(_SCENES[name])]))

    train, validation = part_of("train", "training", 0), part_of("validation", "training", 1)
    test = part_of("test", "held_out", 2)
    images, classes = train.tensors
    fitted = Normalise.fit(images)
    names = tuple(str(digit) for digit in range(10))
    taken = ImageFormat(3, _SCENE_SIZE, _SCENE_SIZE, names, fitted.mean, fitted.std)
    return ImageData(SCENES, train, validation, test, taken, dtype, digest_of(images, classes))


def _in_channels(data: ImageData, channels: int) -> ImageData:
    """Grey images as colours, if that is what is asked for."""
    found = data.format.channels
    if found == channels:
        return data
    if found != 1:
        raise UserError(f"--from-pretrained: the model sees images of {channels} channel(s), but these have {found}")
    train, validation, test = (
        TensorDataset(part.tensors[0].expand(-1, channels, -1, -1).contiguous(), part.tensors[1])
        for part in (data.train, data.validation, data.test)
    )
    taken = replace(data.format, channels=channels, mean=data.format.mean * channels, std=data.format.std * channels)
    return replace(data, train=train, validation=validation, test=test, format=taken)


def _normalised_as(data: ImageData, processor: ImageProcessor, folder: Path) -> ImageData:
    """With a processor's mean and deviation in place of the data's own."""
    count = data.format.channels
    if processor.image_mean is not None and processor.channels != count:
        raise UserError(
            f"{folder / PREPROCESSOR_FILE} normalises images of {processor.channels} channel(s), but the model sees "
            f"{count}: correct one of the two files"
        )

    def channels(numbers: tuple[float, ...] | float | None, otherwise: float) -> tuple[float, ...]:
        numbers = otherwise if numbers is None else numbers
        each = numbers if isinstance(numbers, tuple) else (numbers,) * count
        return tuple(number / (processor.rescale_factor or 1.0) for number in each)

    mean, std = channels(processor.image_mean, 0.0), channels(processor.image_std, 1.0)
    return replace(data, format=replace(data.format, mean=mean, std=std))
