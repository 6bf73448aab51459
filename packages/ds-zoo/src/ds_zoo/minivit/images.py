"""The images that `ds train minivit` learns: those of the image recipes, or scenes."""

from dataclasses import replace
from pathlib import Path

import torch
from ds_cnn import Normalise
from ds_cnn.recipes.image_data import ImageData, image_folder, read_images
from ds_cnn.recipes.image_format import ImageFormat
from ds_cnn.recipes.image_options import IMAGE_SIZE
from ds_core import UserError
from ds_core.data import TensorDataset
from ds_core.training.same_data import digest_of

from ds_zoo.minivit.options import SCENES, MiniViTOptions
from ds_zoo.minivit.pretrained import read_vit_config
from ds_zoo.scenes import Scenes, classified
from ds_zoo.scenes.digits import Part
from ds_zoo.vision.image_processor import FILE as PREPROCESSOR_FILE
from ds_zoo.vision.image_processor import ExactSize, ImageProcessor, ShortestEdge
from ds_zoo.vision.sized_images import SizedImages

_SCENE_SIZE = 32
_SCENES = {"train": 8000, "validation": 500, "test": 1000}


def images_to_learn(options: MiniViTOptions, dtype: torch.dtype | None) -> tuple[ImageData, ImageProcessor]:
    """The images that the options name, and what makes the model's input of any other image.

    To fine-tune a model, grey ones become colours if it sees colours; image files get the size that it was trained on
    and are resized, cropped and normalised as its preprocessor_config.json says, if it has one.

    Raises:
        UserError: they cannot be had, or are in colours and the model sees grey ones.
    """
    folder = options.from_pretrained
    pretrained = None if folder is None else read_vit_config(folder)[0]
    given = None
    if folder is not None and (folder / PREPROCESSOR_FILE).exists():
        given = ImageProcessor.from_pretrained(folder)
    if options.images is not None:
        own = IMAGE_SIZE if pretrained is None else pretrained.image_size
        grey = options.grey or (pretrained is not None and pretrained.num_channels == 1)
        sizing = _processor(given, options.image_size or own, 1 if grey else 3)
        data = image_folder(options.images, options, dtype, SizedImages(sizing))
    elif options.dataset == SCENES:
        data = scene_images(options.seed, dtype)
    else:
        data = read_images(options, dtype)
    if folder is not None and pretrained is not None:
        data = _in_channels(data, pretrained.num_channels)
        data = data if given is None else _normalised_as(data, given, folder)
    taken = data.format
    made = _processor(given, taken.height, taken.channels)
    mean, std = (tuple(value / 255 for value in of_each) for of_each in (taken.mean, taken.std))
    return data, replace(made, rescale_factor=1 / 255, image_mean=mean, image_std=std)


def _processor(given: ImageProcessor | None, size: int, channels: int) -> ImageProcessor:
    """What makes images of size x size, as `given` does if it is given; mean and deviation are only stand-ins."""
    if given is None:  # the largest square around the centre, so that nothing is distorted
        made = ImageProcessor(ShortestEdge(size), crop_size=(size, size))
    elif given.output_size == (size, size):
        made = given
    elif given.crop_size is not None or isinstance(given.size, ShortestEdge):
        made = replace(given, size=ShortestEdge(size), crop_size=(size, size))
    else:
        made = replace(given, size=ExactSize(size, size))
    return replace(made, image_mean=(0.0,) * channels, image_std=(1.0,) * channels)


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
