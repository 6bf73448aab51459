"""MNIST and Fashion-MNIST: 60,000 and 10,000 images of 28 x 28 pixels in ten classes, as IDX files."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ds_core.data.download import cache_folder, download
from ds_core.data.idx import read_idx
from ds_core.data.raw_dataset import Source
from ds_core.errors import UserError


@dataclass(frozen=True)
class Published:
    """Where a set is, and what it should be.

    Attributes:
        mirrors: addresses that end with a slash.
        md5: checksums of the files in the order of `FILES`.
    """

    mirrors: tuple[str, ...]
    md5: tuple[str, ...]
    class_names: tuple[str, ...]
    description: str


# training images, their labels, test images, their labels
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_CLASSES = 10
_SIZE = 28

PUBLISHED = {
    "mnist": Published(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        md5=(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        class_names=tuple("0123456789"),
        description="MNIST: handwritten digits of 28 x 28 grey pixels, 60,000 to train and 10,000 to test. "
        'LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998.',
    ),
    "fashion_mnist": Published(
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        md5=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        description="Fashion-MNIST: pieces of clothing of 28 x 28 grey pixels, 60,000 to train and 10,000 to test. "
        'Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning '
        'algorithms", 2017.',
    ),
}


def digit_images(name: str, folder: str | Path | None = None, progress: bool = True) -> Source:
    """One of `PUBLISHED`, images (N, 1, 28, 28) uint8 of 0 to 255.

    Args:
        folder: where the four files are, compressed or not; None: they are downloaded, once.
        progress: whether a bar is shown while they are.

    Raises:
        UserError: a file that is not in the folder, cannot be had, or is not as it should be.
    """
    published = PUBLISHED[name]
    paths = []
    for file, md5 in zip(FILES, published.md5, strict=True):
        if folder is None:
            urls = [mirror + file for mirror in published.mirrors]
            paths.append(download(file, urls, f"md5:{md5}", cache_folder() / name, progress))
        else:
            paths.append(_find(Path(folder), file))
    return Source(
        rows=_read(paths[0], paths[1]),
        test=_read(paths[2], paths[3]),
        task="classification",
        feature_names=(),
        class_names=published.class_names,
        description=published.description,
        largest=255,
    )


def _find(folder: Path, file: str) -> Path:
    plain = file.removesuffix(".gz")
    names = [file, plain, plain.replace("-idx", ".idx")]  # the last is what some programs unpack
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise UserError(f"{folder} has no {file}; expected it, or {' or '.join(names[1:])}")


def _read(images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
    """-> images (N, 1, 28, 28) uint8, labels (N,) int64."""
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.dtype != torch.uint8 or images.shape[1:] != (_SIZE, _SIZE):
        given = f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}"
        raise UserError(f"{images_path} holds {given}, expected uint8 images of {_SIZE} x {_SIZE} pixels")
    if len(labels) != len(images):
        raise UserError(f"{labels_path} holds {len(labels)} labels, expected one for each of {len(images)} images")
    wrong = (labels < 0) | (labels >= _CLASSES)
    if wrong.any():
        raise UserError(f"{labels_path} holds the label {labels[wrong][0].item()}, expected 0 to {_CLASSES - 1}")
    return images.unsqueeze(1), labels.long()
