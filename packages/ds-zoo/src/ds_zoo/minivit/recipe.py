"""The recipe `minivit` of the command `ds`: train a Vision Transformer, and ask it what images show."""

from pathlib import Path

import torch
from ds_cnn.recipes.image_format import ImageFormat
from ds_cnn.recipes.predict import DRAWN, print_classes, read_files
from ds_cnn.recipes.trained import Trained
from ds_core import load_weights
from ds_core.recipes import Command, Recipe
from ds_core.recipes.finished import check_evaluated, options_of_run
from ds_core.testing import Report, report
from ds_core.training.devices import choose_device
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_core.training.run_options import DTYPES

from ds_zoo.finetuning.options import prepare
from ds_zoo.minivit.config import MiniViTConfig
from ds_zoo.minivit.heads import MiniViTForImageClassification
from ds_zoo.minivit.options import MiniViTOptions, MiniViTPredictOptions
from ds_zoo.minivit.plots import plot_rollout
from ds_zoo.minivit.pretrained import CLASSIFIER, read_vit_config
from ds_zoo.minivit.run import Logits, MiniViTRun
from ds_zoo.vision.image_processor import ImageProcessor
from ds_zoo.vision.sized_images import SizedImages


def name_classes(folder: Path, options: MiniViTPredictOptions) -> None:
    """`ds predict FOLDER`: the likeliest classes of images, and a picture of where the model looked.

    Raises:
        UserError: the folder has no trained model, or an image cannot be used.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    trained = load_trained(folder, options.weights, options.device)
    paths, images = read_files(SizedImages(ImageProcessor.from_pretrained(folder)), options)
    print_classes(trained, paths, images, options.top)
    if options.rollout is not None:
        titles = [path.name for path in paths[:DRAWN]]
        names = trained.format.class_names
        plot_rollout(options.rollout, trained.model, images[:DRAWN], trained.normalise, names, titles)
        print(f"\ndrawn in {options.rollout}")


def load_trained(folder: Path, weights: str, device: str) -> Trained:
    """The model of a run folder with the weights of the "best" evaluation or of the "last" checkpoint.

    Raises:
        UserError: there are none yet, or they are damaged.
    """
    stored = options_of_run(folder, MiniViTOptions)
    images, dtype = ImageFormat.load(folder), DTYPES[stored.dtype]
    if weights == "last":
        # a pretrained model's sizes are not among the options
        config, architecture, labels = read_vit_config(folder)
        pooling = "token" if architecture == CLASSIFIER else "mean"
        vit = MiniViTForImageClassification(config, labels, pooling=pooling)
        prepare(vit, stored, new=("classifier",))
        model = Logits(vit).to(dtype)
        load_weights(folder / CHECKPOINT_FILE, model)
    else:
        check_evaluated(folder, "minivit")
        model = Logits(MiniViTForImageClassification.from_pretrained(folder, dtype=dtype))
    chosen = choose_device(device)
    return Trained(model.to(chosen).eval(), images, stored, chosen, dtype)


def check() -> Report:
    """`ds check minivit`: every gradient of a small MiniViT, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    config = MiniViTConfig(7, 3, num_channels=2, num_layers=2, num_heads=2, embed_dim=8, hidden_dim=12)
    model = MiniViTForImageClassification(config, generator=generator)
    images = torch.randn(2, 2, 7, 7, generator=generator)
    return report(model, images, model.criterion(), torch.tensor([1, 0]))


recipe = Recipe(
    name="minivit",
    summary="a Vision Transformer that tells images apart: digits, MNIST, CIFAR-10, scenes, a folder of yours",
    options=MiniViTOptions,
    train=MiniViTRun.train,
    commands=(Command("predict", "name the classes of images", MiniViTPredictOptions, name_classes),),
    check=check,
)
