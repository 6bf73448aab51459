"""The recipe `miniclip` of the command `ds`: train a CLIP on captioned images, and let it choose among texts."""

import sys
from pathlib import Path

import torch
from ds_core import load_weights
from ds_core.activations.softmax import softmax
from ds_core.recipes import Command, Recipe
from ds_core.recipes.finished import check_evaluated, options_of_run
from ds_core.recipes.results import table
from ds_core.testing import Report, report
from ds_core.training.devices import choose_device
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_core.training.run_options import DTYPES
from torch import Tensor

from ds_zoo.finetuning.options import prepare
from ds_zoo.miniclip.caption_tokenizer import CaptionTokenizer
from ds_zoo.miniclip.config import MiniCLIPConfig, TextConfig, VisionConfig
from ds_zoo.miniclip.model import MiniCLIP
from ds_zoo.miniclip.options import MiniCLIPOptions, RankOptions
from ds_zoo.miniclip.pretrained import read_clip_config
from ds_zoo.miniclip.retrieval import embed_images, embed_texts
from ds_zoo.miniclip.run import MiniCLIPRun
from ds_zoo.vision.image_processor import ImageProcessor, check_image_size

# N = texts, M = images


def rank_texts(folder: Path, options: RankOptions) -> None:
    """`ds predict FOLDER`: for each image the texts, the likeliest first.

    Raises:
        UserError: the folder has no trained model, an image cannot be read, a text is empty or too long.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    model, tokenizer, processor = load_clip(folder, options.weights, options.device)
    for text in options.text:
        unknown = tokenizer.unknown_words(text)
        if unknown:
            print(f"ds: note: no caption had {', '.join(map(repr, unknown))}, in {text!r}", file=sys.stderr)
    images = torch.stack([processor.read(path) for path in options.image])
    cosines, probabilities = ranked(model, embed_texts(model, tokenizer, options.text), embed_images(model, images))
    rows = []
    for row, path in enumerate(options.image):
        for rank, column in enumerate(probabilities[row].argsort(descending=True).tolist()):
            shown = [f"{float(values[row, column]):.4f}" for values in (probabilities, cosines)]
            rows.append([str(path) if rank == 0 else "", options.text[column], *shown])
    print(table(["image", "text", "probability", "cosine"], rows))


def ranked(model: MiniCLIP, texts: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings (N, P) and (M, P) -> cosines (M, N) and, by the model's temperature, each image's probabilities."""
    cosines = torch.mm(images, texts.t())
    return cosines, softmax(cosines * model.similarity.logit_scale.detach().float().exp(), 1)


def load_clip(
    folder: Path, weights: str = "best", device: str = "auto"
) -> tuple[MiniCLIP, CaptionTokenizer, ImageProcessor]:
    """The model of a run, or of any folder that transformers wrote, with tokenizer and image processor.

    Args:
        weights: "best", of the best evaluation, or "last", of the last checkpoint.

    Raises:
        UserError: a file is missing or damaged, or they do not fit each other.
    """
    if weights == "last":
        stored = options_of_run(folder, MiniCLIPOptions)
        model = MiniCLIP(read_clip_config(folder))
        prepare(model, stored)
        model.to(choose_device(device), DTYPES[stored.dtype])
        load_weights(folder / CHECKPOINT_FILE, model)
    else:
        check_evaluated(folder, "miniclip")
        model = MiniCLIP.from_pretrained(folder, device=choose_device(device))
    tokenizer = CaptionTokenizer.from_pretrained(folder, model.config.text)
    processor = ImageProcessor.from_pretrained(folder)
    check_image_size(processor, model.config.vision.image_size, folder)
    return model, tokenizer, processor


def check() -> Report:
    """`ds check miniclip`: every gradient of a small MiniCLIP, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    config = MiniCLIPConfig(
        TextConfig(8, 1, 2, 16, vocab_size=11, max_length=6, end_token=10, begin_token=9, pad_token=10),
        VisionConfig(8, 1, 2, 16, image_size=8, patch_size=4),
        projection_dim=6,
    )
    model = MiniCLIP(config, generator=generator)
    input_ids = torch.randint(9, (3, 6), generator=generator)
    input_ids[:, 5] = 10
    images = torch.randn(3, 3, 8, 8, generator=generator)
    return report(model, (input_ids, images), model.criterion(), torch.tensor([0, 1, 0]))


recipe = Recipe(
    name="miniclip",
    summary="a CLIP that learns images from their captions, digit scenes or your own, and names what it sees",
    options=MiniCLIPOptions,
    train=MiniCLIPRun.train,
    commands=(Command("predict", "rank texts for images", RankOptions, rank_texts),),
    check=check,
)
