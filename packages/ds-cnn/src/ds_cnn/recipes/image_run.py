"""The run that all recipes for images share."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from ds_core import CrossEntropyLoss, KeepBest, Module, SyncBatchNorm, Trainer, evaluate, predict
from ds_core.activations.softmax import softmax
from ds_core.data import Loader, TensorDataset
from ds_core.distributed.processes import current
from ds_core.metrics import Accuracy
from ds_core.recipes import Run
from ds_core.recipes.by_class import ByClass
from ds_core.recipes.results import table
from ds_core.training.same_data import SameData

from ds_cnn.images.augmentation import Augmentation
from ds_cnn.images.augmented import Augmented
from ds_cnn.networks.grad_cam import grad_cam
from ds_cnn.recipes.image_data import ImageData
from ds_cnn.recipes.image_format import IMAGES_FILE, ImageFormat
from ds_cnn.recipes.image_options import ImageOptions
from ds_cnn.recipes.image_plots import plot_feature_maps, plot_filters, plot_grad_cam, plot_wrong

ImageOptionsT = TypeVar("ImageOptionsT", bound=ImageOptions)

_TRAINING_ROWS = 5000  # of the training images that the results measure


class ImageRun(Run[ImageOptionsT, ImageData, Module], Generic[ImageOptionsT]):
    """What is left to a recipe: its data, its network, its optimizer and schedule, and how images are augmented."""

    files: ClassVar[tuple[str, ...]] = (
        IMAGES_FILE,
        "confusion.png",
        "filters.png",
        "feature_maps.png",
        "wrong.png",
        "grad_cam.png",
    )
    option_class: ClassVar[type[ImageOptions]]
    feature_layer: ClassVar[str | None] = None  # whose maps Grad-CAM weighs; None: the last convolution's

    batches: Augmented

    def read_data(self) -> ImageData:
        return self.read_images().to(self.device)

    @abstractmethod
    def read_images(self) -> ImageData:
        """The images to learn, on the CPU.

        Raises:
            UserError: they cannot be had or read.
        """

    @classmethod
    @abstractmethod
    def network(cls, options: ImageOptionsT, images: ImageFormat) -> Module:
        """The untrained network for such images; `ds predict` loads a run's weights into it.

        Raises:
            UserError: the options and the images do not go together.
        """

    @abstractmethod
    def make_optimizer(self) -> tuple[Any, Any]:
        """The optimizer, and its schedule or None."""

    def augmentations(self) -> Sequence[Augmentation]:
        """What changes the training images at random."""
        return ()

    def make_criterion(self) -> CrossEntropyLoss:
        """The loss."""
        return CrossEntropyLoss()

    def build_model(self) -> Module:
        model = self.network(self.options, self.data.format)
        if current().world_size > 1:  # norms see the whole batch, so that the run is the one of a single process
            SyncBatchNorm.convert_sync_batchnorm(model)
        return model

    @property
    def most_measured(self) -> int | None:
        """Of how many images of a part loss and accuracy are measured; None: of all, but of 5,000 training images."""
        return None

    def steps_between_evaluations(self) -> int:
        """After so many steps the validation images are measured."""
        return self.options.evaluate_every * self.batches.steps_per_epoch

    def make_batches(self) -> Augmented:
        options = self.options
        loader = Loader(self.data.train, options.batch_size, seed=options.seed)
        return Augmented(loader, self.augmentations(), self.data.normalise, seed=options.seed)

    def make_trainer(self) -> Trainer:
        options = self.options
        self.criterion = self.make_criterion()
        optimizer, schedule = self.make_optimizer()
        return Trainer(
            self.model,
            self.criterion,
            optimizer,
            schedule=schedule,
            compile=getattr(options, "compile", "none") == "step",
            folder=self.folder,
            evaluate=lambda model: self.measure(self.data.validation),
            evaluate_every=self.steps_between_evaluations(),
            callbacks=[SameData(self.data.digest, self.data.source), KeepBest()],
        )

    def describe(self) -> str:
        data = self.data
        return (
            f"{self.parameters_in_words} learn {data.source}: {len(data.format.class_names)} classes of "
            f"images {data.format}, {len(data.train):,} to train on, {len(data.validation):,} to validate on, "
            f"{len(data.test):,} to test on; {self.batches.steps_per_epoch} steps an epoch"
        )

    def write_folder(self) -> None:
        self.data.format.save(self.folder)

    def measure(self, part: TensorDataset) -> dict[str, Any]:
        """Loss and accuracy over the images of a part, or as many as are measured."""
        most = self.most_measured or (_TRAINING_ROWS if part is self.data.train else None)
        return evaluate(self.model, self.data.batches(part, most), self.criterion, {"accuracy": Accuracy()})

    def report(self) -> Mapping[str, Any]:
        """Loss and accuracy of every part, precision and recall of every class of the test images."""
        data = self.data
        parts = {"train": data.train, "validation": data.validation, "test": data.test}
        found = {name: self.measure(part) for name, part in parts.items()}
        rows = [[part, *(float(values[name]) for name in ("loss", "accuracy"))] for part, values in found.items()]
        print(table(["", "loss", "accuracy"], rows))
        logits = predict(self.model, (images for images, _ in data.batches(data.test, self.most_measured)))
        self.probabilities = softmax(logits.float(), 1)
        self.by_class = ByClass(logits, data.test.tensors[1][: len(logits)], data.format.class_names)
        print(f"\n{self.by_class}")
        return {**found, "test by class": self.by_class.results()}

    def plot(self) -> None:
        super().plot()
        data, folder = self.data, self.folder
        images, classes = data.test.tensors
        self.by_class.confusion.plot(folder / "confusion.png", data.format.class_names)
        count = len(self.probabilities)
        images, classes = images[:count], classes[:count]
        plot_wrong(folder / "wrong.png", images, classes, self.probabilities, data.format.class_names)
        plot_filters(folder / "filters.png", self.model)
        plot_feature_maps(folder / "feature_maps.png", self.model, images[0], data.normalise)
        shown, names = slice(0, 8), data.format.class_names
        found = grad_cam(self.model, data.normalise(images[shown]), layer=self.feature_layer)
        true = [names[int(number)] for number in classes[shown]]
        plot_grad_cam(folder / "grad_cam.png", images[shown], found, names, true)

    def next_commands(self) -> list[str]:
        return [
            f"predict {self.typed_folder} --image FILE",
            f"predict {self.typed_folder} --image FILE --grad-cam heat.png",
            f"check {self.name}",
        ]
