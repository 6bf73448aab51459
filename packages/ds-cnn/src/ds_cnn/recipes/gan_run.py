"""The run that `dcgan` and `wgan` share: real images, two networks, and what their samples look like."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from ds_core import Adam, Trainer, UserError, load_weights
from ds_core.distributed.processes import current
from ds_core.errors import MissingPackageError
from ds_core.recipes import Command, Run
from ds_core.recipes.choices import make_schedule
from ds_core.recipes.finished import options_of_run
from ds_core.training.devices import choose_device
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_core.training.same_data import SameData
from torch import Tensor

from ds_cnn.gan.gan import GAN
from ds_cnn.gan.gan_batches import GANBatches
from ds_cnn.recipes.gan_options import GANOptions, GenerateOptions
from ds_cnn.recipes.gan_plots import check_size, draw, latent, plot_losses, write_samples, write_walks
from ds_cnn.recipes.image_data import ImageData, data_set
from ds_cnn.recipes.image_format import IMAGES_FILE, ImageFormat
from ds_cnn.recipes.judge import load_judge, train_judge, verdict

GANOptionsT = TypeVar("GANOptionsT", bound=GANOptions)

SAMPLES_FILE = "samples.png"
WALKS_FILE = "walks.png"
_SHOWN = 64
_HELD_OUT = 0.1


class GANRun(Run[GANOptionsT, ImageData, GAN], Generic[GANOptionsT]):
    """What is left to a recipe: its networks, its loss, and how often the discriminator moves."""

    files = (IMAGES_FILE, SAMPLES_FILE, WALKS_FILE)
    options_class: ClassVar[type[GANOptions]]
    player: ClassVar[str] = "discriminator"
    batches: GANBatches

    @classmethod
    @abstractmethod
    def networks(cls, options: Any, images: ImageFormat) -> GAN:
        """Both networks, untrained, for images of this format."""

    @abstractmethod
    def make_criterion(self) -> Any:
        """The loss of both players."""

    @property
    def discriminator_steps(self) -> int:
        """Steps of the discriminator in each round."""
        return 1

    def read_data(self) -> ImageData:
        if current().world_size > 1:
            raise UserError(
                f"{self.name} trains in one process: batch norm would see another batch in each of several, and their "
                "images would not be those of one"
            )
        options = self.options
        data = data_set(options.dataset, options.folder, _HELD_OUT, _HELD_OUT, options.seed, None)
        if options.batch_size > len(data.train):
            raise UserError(f"--batch-size {options.batch_size} is more than the {len(data.train)} images there are")
        if options.judge is not None:
            load_judge(options.judge, data, options.folder, options.device)  # to be refused before anything is trained
        return data

    def build_model(self) -> GAN:
        try:
            return self.networks(self.options, self.data.format)
        except (RuntimeError, MemoryError) as error:
            raise UserError(f"--width {self.options.width}: there is no memory for so many weights") from error

    def make_batches(self) -> GANBatches:
        options = self.options
        return GANBatches(
            self._scaled(self.data.train.tensors[0]),
            options.batch_size,
            options.latent_size,
            discriminator_steps=self.discriminator_steps,
            seed=options.seed,
            **self.batch_options(),
        )

    def batch_options(self) -> dict[str, Any]:
        """What the recipe wants of `GANBatches` besides."""
        return {}

    def count_steps(self) -> int:
        return self.options.rounds * (self.discriminator_steps + 1)

    def length(self) -> str:
        return f"{super().length()} of --rounds {self.options.rounds}"

    def make_trainer(self) -> Trainer:
        options, model = self.options, self.model
        groups = [
            {"params": list(model.discriminator.parameters()), "lr": options.lr_discriminator},
            {"params": list(model.generator.parameters()), "lr": options.lr_generator},
        ]
        optimizer = Adam(groups, betas=(options.beta1, options.beta2))
        return Trainer(
            model,
            self.make_criterion(),
            optimizer,
            schedule=make_schedule(options.schedule, optimizer, self.steps, warmup_steps=0),
            folder=self.folder,
            evaluate=lambda model: self.measure(),
            evaluate_every=options.evaluate_every * (self.discriminator_steps + 1),
            callbacks=[SameData(self.data.digest, self.data.source)],
        )

    def write_folder(self) -> None:
        self.data.format.save(self.folder)

    def describe(self) -> str:
        options, model = self.options, self.model
        counts = [
            sum(tensor.numel() for tensor in part.parameters()) for part in (model.generator, model.discriminator)
        ]
        return (
            f"a generator of {counts[0]:,} parameters and a {self.player} of {counts[1]:,} learn to draw and to tell "
            f"{len(self.data.train):,} images {self.data.format} of {self.data.source}; {options.rounds:,} rounds, "
            f"each {self.discriminator_steps} step(s) of the {self.player} and one of the generator"
        )

    def measure(self) -> dict[str, Any]:
        """What the discriminator says, on average, of real images that it has not seen, and of generated ones.

        Draws a picture of samples, too.
        """
        real = self._scaled(self.data.validation.tensors[0][:256])
        noise = latent(len(real), self.options.latent_size, self.options.seed, 0).to(real)
        model = self.model
        values = {
            "real": float(model.discriminator.forward(real).mean()),
            "fake": float(model.discriminator.forward(model.generator.forward(noise)).mean()),
        }
        if self.options.plots and current().first:
            try:
                write_samples(self.folder / SAMPLES_FILE, self._samples(_SHOWN), 8, self._scale)
            except MissingPackageError as error:
                print(f"no pictures: {error}")
        return values

    def report(self) -> Mapping[str, Any]:
        options = self.options
        if options.judge is None:
            assert options.judge_epochs is not None
            judge = train_judge(self.data, options.judge_epochs, options.seed, self.device)
        else:
            judge = load_judge(options.judge, self.data, options.folder, options.device)
        found = verdict(judge, self._samples(options.judged))
        print(
            f"a classifier, right on {judge.accuracy:.1%} of the test images, is sure of {found.confident:.1%} of "
            f"{options.judged} samples (of the test images: {judge.sure_of_real:.1%}), and finds {found.classes} of "
            f"{len(judge.class_names)} classes among them:"
        )
        print("  " + ", ".join(f"{name}: {count}" for name, count in found.by_class.items()))
        return {
            "judge": {"accuracy": judge.accuracy, "confident of real": judge.sure_of_real},
            "confident": found.confident,
            "classes": found.classes,
            "by class": found.by_class,
        }

    def plot(self) -> None:
        records = self.trainer.history.training
        plot_losses(self.folder / "loss.png", records, self.batches.is_generators, (self.player, "generator"))
        write_samples(self.folder / SAMPLES_FILE, self._samples(_SHOWN), 8, self._scale)
        options = self.options
        write_walks(self.folder / WALKS_FILE, self.model.generator, options.latent_size, options.seed, self._scale)

    def next_commands(self) -> list[str]:
        longer = f"train {self.name} --out {self.typed_folder} --resume --rounds {2 * self.options.rounds}"
        return [f"generate {self.typed_folder} --count 64 --out drawn.png", longer]

    def _samples(self, count: int) -> Tensor:
        """Images of 8 bits from noise that is always the same."""
        return draw(self.model.generator, latent(count, self.options.latent_size, self.options.seed, 0))

    def _scaled(self, images: Tensor) -> Tensor:
        """Images of 8 bits from -1 to 1, as the generator draws them."""
        return images.to(self.device, torch.get_default_dtype()) / 127.5 - 1

    @property
    def _scale(self) -> int:
        return max(1, 32 // self.data.format.height)


def generate_command(run: type[GANRun[Any]]) -> Command:
    """`ds generate` for the recipe of this run."""

    def generate(folder: Path, options: GenerateOptions) -> None:
        draw_images(run, folder, options)

    return Command("generate", "draw images", GenerateOptions, generate)


def draw_images(run: type[GANRun[Any]], folder: Path, options: GenerateOptions) -> None:
    """`ds generate FOLDER`: images by the generator of a run folder, in one PNG.

    Raises:
        UserError: there is no checkpoint yet, or it is damaged, or the picture would be too large.
        WriteError: the PNG cannot be written.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    kind = run.options_class
    began: Any = options_of_run(folder, kind)
    if not (folder / CHECKPOINT_FILE).exists():
        raise UserError(f"{folder} has no {CHECKPOINT_FILE} yet: ds train {run.name} --out {folder} --resume trains it")
    images_of_run = ImageFormat.load(folder)
    check_size(options, images_of_run)
    model = run.networks(began, images_of_run).to(choose_device(options.device))
    load_weights(folder / CHECKPOINT_FILE, model)
    seed = torch.Generator().seed() % 2**62 if options.seed is None else options.seed
    images = draw(model.generator, latent(options.count, began.latent_size, seed))
    write_samples(options.out, images, options.columns, options.scale)
    print(f"{options.count} image(s) in {options.out}")
