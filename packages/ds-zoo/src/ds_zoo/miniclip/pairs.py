"""Images and captions in batches, drawn scenes or files of the user's. Theory: docs/miniclip/recipe.md."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from ds_cnn import ImageError, ImageReader
from ds_core import UserError
from ds_core.data.generators import keyed_generator
from torch import Tensor

from ds_zoo.miniclip.caption_tokenizer import CaptionTokenizer
from ds_zoo.miniclip.scene_captions import caption_of
from ds_zoo.scenes import CaptionedImages, Scene, Scenes, captioned
from ds_zoo.scenes.scene_batches import stack_images
from ds_zoo.vision.image_processor import ImageProcessor

# B = batch, T = tokens, H, W = height and width of an image


@dataclass(frozen=True)
class Preparation:
    """What becomes of images and captions before the model sees them.

    Attributes:
        device, dtype: of the images.
        short: the share of drawn scenes whose captions leave words out.
    """

    tokenizer: CaptionTokenizer
    processor: ImageProcessor
    device: torch.device
    dtype: torch.dtype | None
    short: float = 0.0

    def batch(self, images: Tensor, captions: Sequence[str], sources: Sequence[str] | None = None) -> tuple[Any, Any]:
        """pixel values (B, 3, H, W) and captions -> ((input_ids, pixel_values), groups)."""
        input_ids = self.tokenizer.encode(captions, sources).to(self.device)
        groups = torch.tensor([group_of(caption) for caption in captions], device=self.device)
        return (input_ids, images.to(self.device, self.dtype)), groups

    def scenes(self, scenes: Sequence[Scene]) -> tuple[Any, Any]:
        """Drawn scenes as such a batch."""
        captions = [caption_of(scene, self.short) for scene in scenes]
        return self.batch(self.processor(stack_images(scenes)), captions)


@lru_cache(2**15)
def group_of(caption: str) -> int:
    """A number that equal captions share, in whatever process they stand, and different ones do not."""
    return int.from_bytes(hashlib.blake2b(caption.encode(), digest_size=7).digest(), "big")


class FileBatches:
    """A `Batches` of files: every epoch in another order, each file once, what does not fill a batch left out.

    Args:
        pairs: files and captions.
        prepare: makes a batch of them.
        batch_size: B; with fewer pairs a batch holds all of them.
        seed: of the orders.
    """

    def __init__(self, pairs: CaptionedImages, prepare: Preparation, batch_size: int, seed: int) -> None:
        self.pairs = pairs
        self.prepare = prepare
        self.batch_size = min(batch_size, len(pairs))
        self.seed = seed

    def batch(self, index: int) -> tuple[Any, Any]:
        """Batch number `index`."""
        epoch, position = divmod(index, len(self.pairs) // self.batch_size)
        order = torch.randperm(len(self.pairs), generator=keyed_generator(self.seed, epoch))
        rows = order[position * self.batch_size : (position + 1) * self.batch_size].tolist()
        return self.prepare.batch(read_images(self.prepare.processor, self.pairs, rows), *_captions(self.pairs, rows))


@dataclass(frozen=True)
class Examples:
    """Images and captions that are measured again and again, so they are kept.

    Attributes:
        pixel_values: (N, 3, H, W).
        captions: N of them.
    """

    pixel_values: Tensor
    captions: tuple[str, ...]

    @classmethod
    def of_scenes(cls, scenes: Sequence[Scene], processor: ImageProcessor) -> "Examples":
        images, captions = captioned(scenes)
        return cls(processor(images), tuple(captions))

    @classmethod
    def of_files(cls, pairs: CaptionedImages, processor: ImageProcessor) -> "Examples":
        return cls(read_images(processor, pairs, range(len(pairs))), pairs.texts)

    def __len__(self) -> int:
        return len(self.captions)

    def distinct(self, count: int) -> "Examples":
        """The first `count` of them that are all described differently, or as many as there are."""
        first: dict[str, int] = {}
        for number, caption in enumerate(self.captions):
            first.setdefault(caption, number)
        rows = list(first.values())[:count]
        return Examples(self.pixel_values[rows], tuple(self.captions[row] for row in rows))


@dataclass(frozen=True)
class Digits:
    """Scenes with one digit each, for zero-shot classification.

    Attributes:
        pixel_values: (M, 3, H, W).
        classes: (M,) int64.
    """

    pixel_values: Tensor
    classes: Tensor

    @classmethod
    def of_scenes(cls, scenes: Scenes, count: int, processor: ImageProcessor) -> "Digits":
        drawn = [scenes.scene(index) for index in range(count)]
        return cls(processor(stack_images(drawn)), torch.cat([scene.class_labels for scene in drawn]))


def read_images(processor: ImageProcessor, pairs: CaptionedImages, rows: Sequence[int]) -> Tensor:
    """The images of some rows -> (B, 3, H, W).

    Raises:
        UserError: an image cannot be read (ImageError), or the processor leaves them in different sizes.
    """
    images = [processor.read(pairs.paths[row]) for row in rows]
    if len({image.shape for image in images}) > 1:
        raise UserError(f"{pairs.table}: the images come out in different sizes; preprocessor_config.json sets none")
    return torch.stack(images)


def check_images(pairs: CaptionedImages) -> None:
    """Open every file once, so that training does not end at one that is no image.

    Raises:
        UserError: a file is no image, by what stands at its beginning; the caption that it belongs to is named.
    """
    reader = ImageReader()
    for path, text in dict(zip(pairs.paths, pairs.texts, strict=True)).items():
        try:
            reader.check(path)
        except ImageError as error:
            raise UserError(f"{pairs.table}: {error}; its caption is {text[:40]!r}") from error


def split_pairs(pairs: CaptionedImages, share: float, seed: int) -> tuple[CaptionedImages, CaptionedImages]:
    """Training and validation; captions of one image stay together.

    Raises:
        UserError: there are too few images for two parts, or a part has the same caption throughout.
    """
    files = list(dict.fromkeys(pairs.paths))
    count = round(share * len(files))
    if min(count, len(files) - count) < 2:
        raise UserError(
            f"{pairs.table}: {len(files)} different image(s) and --validation {share} leave fewer than two to train "
            "on, or to validate on: give more images, or another --validation"
        )
    order = torch.randperm(len(files), generator=keyed_generator(seed, 0)).tolist()
    held_out = {files[number] for number in order[:count]}
    parts = []
    for chosen in (False, True):
        rows = [row for row, path in enumerate(pairs.paths) if (path in held_out) == chosen]
        paths, texts = (tuple(column[row] for row in rows) for column in (pairs.paths, pairs.texts))
        if len(set(texts)) < 2:
            raise UserError(
                f"{pairs.table}: all {len(texts)} captions {'held out' if chosen else 'to train on'} are the same, "
                f"{texts[0]!r}: expected different ones, which tell the images apart"
            )
        parts.append(CaptionedImages(pairs.table, paths, texts))  # type: ignore[arg-type]
    return parts[0], parts[1]


def _captions(pairs: CaptionedImages, rows: Sequence[int]) -> tuple[list[str], list[str]]:
    """The captions of some rows, and where each stands."""
    return [pairs.texts[row] for row in rows], [f"{pairs.table}: the caption of {pairs.paths[row]}" for row in rows]
