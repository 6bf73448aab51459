"""What a run of miniclip learns from and is measured on. Theory: docs/miniclip/recipe.md."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ds_core import UserError
from ds_core.data.batches import Batches
from ds_core.distributed.processes import current

from ds_zoo.miniclip.caption_tokenizer import CaptionTokenizer
from ds_zoo.miniclip.options import MiniCLIPOptions
from ds_zoo.miniclip.pairs import Digits, Examples, FileBatches, Preparation, check_images, split_pairs
from ds_zoo.miniclip.pretrained import read_clip_config
from ds_zoo.miniclip.scene_captions import MixedScenes, digit_sizes, longest_caption
from ds_zoo.scenes import VOCABULARY, CaptionedImages, SceneBatches, Scenes, read_captions, with_distinct_captions
from ds_zoo.vision.image_processor import ExactSize, ImageProcessor, check_image_size

RETRIEVED = 100  # pairs among which the one that belongs together is to be found
_ZERO_SHOT, _ZERO_SHOT_AT_END = 200, 1000  # scenes with one digit
_LONGEST = 77  # tokens of a caption in CLIP, until it is known what is needed
_STREAMS = 6  # of scenes, from one seed
# Mean and deviation of a scene's pixels, all channels alike; photographs are somewhat brighter
_MEAN, _STD = 0.25, 0.25


@dataclass(frozen=True)
class ClipData:
    """Data of a run.

    Attributes:
        training: scenes that are drawn on and on, or files.
        validation: measured during training: new scenes with training's digits, or files held out.
        test: measured at the end, captions all different: scenes with digits that training never saw; of files the
            validation's.
        digits, test_digits: scenes with one digit each; None if files are learned.
        digest, source: what `SameData` compares, and what it is in words.
    """

    prepare: Preparation
    training: MixedScenes | CaptionedImages
    validation: Examples
    test: Examples
    digits: Digits | None
    test_digits: Digits | None
    digest: str
    source: str

    def batches(self, options: MiniCLIPOptions) -> Batches:
        """What to train on, this process's rows."""
        if isinstance(self.training, MixedScenes):
            processes = current()
            scenes: Any = self.training  # anything that has scenes by number
            return SceneBatches(
                scenes,
                options.batch_size,
                self.prepare.scenes,
                rank=processes.rank,
                world_size=processes.world_size,
            )
        return FileBatches(self.training, self.prepare, options.batch_size, options.seed)


def read_data(options: MiniCLIPOptions, device: torch.device, dtype: torch.dtype | None) -> ClipData:
    """The data that the options ask for.

    Raises:
        UserError: files or the pretrained folder cannot be used, captions are too long, batches too small.
    """
    world_size = current().world_size
    if options.batch_size < world_size:
        raise UserError(f"--batch-size {options.batch_size} is less than the {world_size} processes")
    if options.images_captions is None:
        return _scenes(options, device, dtype)
    return _files(options, read_captions(options.images_captions), device, dtype)


def _scenes(options: MiniCLIPOptions, device: torch.device, dtype: torch.dtype | None) -> ClipData:
    sizes = digit_sizes(options.scene_size)

    def drawn(count: int | tuple[int, int], stream: int, *, held_out: bool = False) -> Scenes:
        part: Any = "held_out" if held_out else "training"
        jitter = None if options.jitter < 0 else options.jitter
        seed = _STREAMS * options.seed + stream
        return Scenes(options.scene_size, count, sizes=sizes, jitter=jitter, part=part, seed=seed)

    try:
        several = drawn((1, options.digits), 1)
    except ValueError as error:
        raise UserError(f"--digits {options.digits} with --scene-size {options.scene_size}: {error}") from error
    prepare = _preparation(
        options, [" ".join(VOCABULARY)], lambda made: [longest_caption(options.digits, made.length_of)], device, dtype
    )
    length_of, room = prepare.tokenizer.length_of, prepare.tokenizer.max_length
    longest = longest_caption(options.digits, length_of)
    if length_of(longest) > room:
        flag = "--max-length" if options.from_pretrained is None else "--from-pretrained"
        raise UserError(
            f"{flag}: the model reads at most {room} tokens, but captions of --digits {options.digits} have up to "
            f"{length_of(longest)}: {longest!r}"
        )
    processor = prepare.processor
    validation = MixedScenes(drawn(1, 2), drawn((1, options.digits), 3), options.single)
    test = drawn((1, options.digits), 4, held_out=True)
    named = (options.scene_size, options.digits, options.jitter, options.single, options.short_captions, options.seed)
    return ClipData(
        prepare=prepare,
        training=MixedScenes(drawn(1, 0), several, options.single),
        validation=Examples.of_scenes([validation.scene(i) for i in range(options.evaluate_pairs)], processor),
        test=Examples.of_scenes(with_distinct_captions(test, RETRIEVED), processor),
        digits=Digits.of_scenes(drawn(1, 2), _ZERO_SHOT, processor),
        test_digits=Digits.of_scenes(drawn(1, 5, held_out=True), _ZERO_SHOT_AT_END, processor),
        digest=_digest(f"scenes {named}", options),
        source="scenes of handwritten digits, drawn anew for every step",
    )


def _files(
    options: MiniCLIPOptions, pairs: CaptionedImages, device: torch.device, dtype: torch.dtype | None
) -> ClipData:
    check_images(pairs)
    training, validation = split_pairs(pairs, options.validation, options.seed)
    prepare = _preparation(options, training.texts, lambda made: pairs.texts, device, dtype)
    prepare.tokenizer.encode(pairs.texts, [f"{pairs.table}: the caption of {path}" for path in pairs.paths])
    most = options.evaluate_pairs
    few = CaptionedImages(pairs.table, validation.paths[:most], validation.texts[:most])
    examples = Examples.of_files(few, prepare.processor)
    return ClipData(
        prepare=prepare,
        training=training,
        validation=examples,
        test=examples.distinct(RETRIEVED),
        digits=None,
        test_digits=None,
        digest=_digest(pairs.digest(), options),
        source=f"{len(training):,} captions in {pairs.table}, {len(validation):,} held out",
    )


def _preparation(
    options: MiniCLIPOptions,
    captions: Sequence[str],
    every: Callable[[CaptionTokenizer], Sequence[str]],
    device: torch.device,
    dtype: torch.dtype | None,
) -> Preparation:
    """Tokenizer and image processor: new ones, or those of --from-pretrained.

    Args:
        captions: that the tokenizer learns words from.
        every: all captions that it must have room for.
    """
    folder = options.from_pretrained
    if folder is None:
        tokenizer = CaptionTokenizer.train(
            captions, _LONGEST, vocabulary=options.vocabulary, vocab_size=options.vocab_size
        )
        tokenizer.max_length = options.max_length or max(map(tokenizer.length_of, every(tokenizer)))
        size = options.image_size
        processor = ImageProcessor(
            ExactSize(size, size), resample=3, image_mean=_MEAN, image_std=_STD, kind="CLIPImageProcessor"
        )
        return Preparation(tokenizer, processor, device, dtype, options.short_captions)
    config = read_clip_config(folder)
    processor = ImageProcessor.from_pretrained(folder)
    check_image_size(processor, config.vision.image_size, folder)
    tokenizer = CaptionTokenizer.from_pretrained(folder, config.text)
    return Preparation(tokenizer, processor, device, dtype, options.short_captions)


def _digest(data: str, options: MiniCLIPOptions) -> str:
    return hashlib.sha256(f"{data} {options.validation}".encode()).hexdigest()
