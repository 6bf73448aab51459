"""`ds train minivit`: a Vision Transformer that learns to tell images apart."""

from collections.abc import Sequence
from typing import Any, ClassVar

from ds_cnn import Augmentation
from ds_cnn.recipes.image_data import ImageData
from ds_cnn.recipes.image_format import IMAGES_FILE, ImageFormat
from ds_cnn.recipes.image_options import shift_and_flip
from ds_cnn.recipes.image_plots import plot_wrong
from ds_cnn.recipes.image_run import ImageRun
from ds_cnn.recipes.predict import DRAWN
from ds_core import ClassifierOutput, CrossEntropyLoss, KeepBest, Module, Trainer, UserError
from ds_core.recipes import Run
from ds_core.recipes.choices import make_schedule
from ds_core.training.pretrained_files import write_config
from ds_core.training.pretrained_labels import Labels
from ds_core.training.same_data import SameData
from torch import Tensor

from ds_zoo.finetuning.optimizer import make_adamw
from ds_zoo.finetuning.options import prepare
from ds_zoo.minivit.config import MiniViTConfig
from ds_zoo.minivit.heads import MiniViTForImageClassification
from ds_zoo.minivit.images import images_to_learn
from ds_zoo.minivit.options import MiniViTOptions
from ds_zoo.minivit.plots import plot_positions, plot_rollout
from ds_zoo.minivit.pretrained import config_fields, read_vit_config
from ds_zoo.vision.image_processor import FILE as PREPROCESSOR_FILE


class Logits(Module):
    """A classifier whose output is the tensor of its logits, as the recipes for images take it."""

    def __init__(self, model: MiniViTForImageClassification) -> None:
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values (B, C, H, W) -> logits (B, K)."""
        logits: Tensor | None = self.model.forward(pixel_values).logits
        assert logits is not None
        return logits

    def backward(self, dlogits: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dlogits (B, K) -> dpixel_values (B, C, H, W)."""
        return self.model.backward(ClassifierOutput(dlogits), input_gradient=input_gradient)


class MiniViTRun(ImageRun[MiniViTOptions]):
    """`ds train minivit`."""

    name = "minivit"
    option_class = MiniViTOptions
    files: ClassVar[tuple[str, ...]] = (
        *("config.json", "model.safetensors", PREPROCESSOR_FILE),
        *(IMAGES_FILE, "confusion.png", "wrong.png", "rollout.png", "positions.png"),
    )

    def read_images(self) -> ImageData:
        data, self.processor = images_to_learn(self.options, self.dtype)
        return data

    @classmethod
    def network(cls, options: MiniViTOptions, images: ImageFormat) -> Logits:
        """A new model, or a pretrained one with a new head; what is frozen or has LoRA's updates is prepared."""
        labels = Labels(images.class_names)
        if options.from_pretrained is None:
            model = MiniViTForImageClassification(
                config_of(options, images), labels, pooling=options.pooling or "token"
            )
        else:
            model = pretrained_of(options, images, labels)
        prepare(model, options, new=("classifier",))
        return Logits(model)

    def augmentations(self) -> Sequence[Augmentation]:
        return shift_and_flip(self.options, self.data.format.height, self.data.format.width)

    def count_steps(self) -> int:
        return max(1, self.options.epochs * self.batches.steps_per_epoch // self.options.accumulate)

    def length(self) -> str:
        return f"{super().length()} of --epochs {self.options.epochs}"

    def steps_between_evaluations(self) -> int:
        return max(1, super().steps_between_evaluations() // self.options.accumulate)

    def make_criterion(self) -> CrossEntropyLoss:
        return CrossEntropyLoss(label_smoothing=self.options.label_smoothing)

    def make_optimizer(self) -> tuple[Any, Any]:
        options = self.options
        optimizer = make_adamw(self.model, options)
        warmup_steps = round(options.warmup * self.steps)
        schedule = make_schedule("cosine", optimizer, self.steps, warmup_steps=warmup_steps, min_lr=options.min_lr)
        return optimizer, schedule

    def make_trainer(self) -> Trainer:
        options = self.options
        self.criterion = self.make_criterion()
        optimizer, schedule = self.make_optimizer()
        return Trainer(
            self.model,
            self.criterion,
            optimizer,
            schedule=schedule,
            clip_norm=options.clip_norm or None,
            accumulate=options.accumulate,
            compile=options.compile == "step",
            folder=self.folder,
            evaluate=lambda model: self.measure(self.data.validation),
            evaluate_every=self.steps_between_evaluations(),
            checkpoint_every=options.checkpoint_every,
            callbacks=[
                SameData(self.data.digest, self.data.source),
                KeepBest(write=lambda trainer: trainer.model.model.save_pretrained(trainer.folder)),
            ],
        )

    def describe(self) -> str:
        config = self.vit.config
        return (
            f"MiniViT of {config.num_layers} layers, {config.embed_dim} wide, {config.num_tokens} tokens: "
            f"{super().describe()}"
        )

    def write_folder(self) -> None:
        """What transformers reads, but for the weights: the sizes, the classes, and what becomes of an image."""
        super().write_folder()
        write_config(self.folder, config_fields(self.vit), self.vit.state_dict())
        self.processor.save_pretrained(self.folder)

    def plot(self) -> None:
        Run.plot(self)
        data, folder, names = self.data, self.folder, self.data.format.class_names
        images, classes = data.test.tensors
        self.by_class.confusion.plot(folder / "confusion.png", names)
        plot_wrong(folder / "wrong.png", images, classes, self.probabilities, names)
        shown = slice(0, DRAWN)
        true = [names[int(number)] for number in classes[shown]]
        plot_rollout(folder / "rollout.png", self.model, images[shown], data.normalise, names, true)
        plot_positions(folder / "positions.png", self.vit.vit.tokens.positions[1:])

    def next_commands(self) -> list[str]:
        return [
            f"predict {self.typed_folder} --image FILE --rollout looked-at.png",
            f"check {self.name}",
            f"train minivit --out {self.typed_folder} --resume --epochs {2 * self.options.epochs}",
        ]

    @property
    def vit(self) -> MiniViTForImageClassification:
        """The model without the wrapping of the recipe."""
        model: Any = self.model
        return model.model  # type: ignore[no-any-return]


def config_of(options: MiniViTOptions, images: ImageFormat) -> MiniViTConfig:
    """The sizes that the options ask for.

    Raises:
        UserError: patches larger than the images.
    """
    if options.patch_size > min(images.height, images.width):
        raise UserError(
            f"--patch-size {options.patch_size} is larger than the images of {images.height} x {images.width} pixels"
        )
    return MiniViTConfig(
        image_size=images.height,
        patch_size=options.patch_size,
        num_channels=images.channels,
        num_layers=options.num_layers,
        num_heads=options.num_heads,
        embed_dim=options.embed_dim,
        hidden_dim=options.hidden_dim or 4 * options.embed_dim,
        dropout=options.dropout,
        attention_dropout=options.attention_dropout,
        initializer_range=options.initializer_range,
    )


def pretrained_of(options: MiniViTOptions, images: ImageFormat, labels: Labels) -> MiniViTForImageClassification:
    """The pretrained model with a new head, for images of this size.

    Raises:
        UserError: it cannot be read, or its patches are larger than the images.
    """
    folder = options.from_pretrained
    assert folder is not None
    patch_size = read_vit_config(folder)[0].patch_size
    if patch_size > min(images.height, images.width):
        raise UserError(
            f"--from-pretrained: the model's patches of {patch_size} pixels are larger than the images of "
            f"{images.height} x {images.width}"
        )
    return MiniViTForImageClassification.from_pretrained(
        folder,
        labels=labels,
        pooling=options.pooling,
        image_size=images.height,
        dropout=options.dropout,
        attention_dropout=options.attention_dropout,
    )
