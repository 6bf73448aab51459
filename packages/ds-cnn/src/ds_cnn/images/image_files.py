"""The image files of a folder of classes: root/class/image, with folders in between if there are any."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ds_core import UserError
from ds_core.errors import one_line

from ds_cnn.images.read_image import FORMATS, ImageError

Faulty = Literal["refuse", "skip"]
HOW_TO_SKIP = 'faulty="skip" leaves out what cannot be used'

# What systems put into folders unasked, beside names that begin with a dot
_IGNORED = {"thumbs.db", "desktop.ini", "__macosx"}


@dataclass
class ImageFiles:
    """Which files there are, sorted by class, folder and name, and what was left out.

    Attributes:
        class_names: the names of the class folders, sorted.
        paths, targets: of each file, its path and the number of its class.
        skipped: (path, why) of what was left out; empty if `faulty` is "refuse".
    """

    faulty: Faulty
    class_names: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    def keep(self, use: Callable[[Path], object]) -> None:
        """Keep the files for which `use(path)` raises no `ImageError`.

        Raises:
            ImageError: what `use` raised, if `faulty` is "refuse".
            UserError: nothing is left.
        """
        kept = []
        for path, target in zip(self.paths, self.targets, strict=True):
            try:
                use(path)
            except ImageError as error:
                self._fault(path, str(error))
            else:
                kept.append((path, target))
        self.paths, self.targets = [path for path, _ in kept], [target for _, target in kept]

    def drop_empty_classes(self, root: Path) -> None:
        """Leave out the classes that have no image.

        Raises:
            ImageError: there is one, and `faulty` is "refuse".
            UserError: no class is left.
        """
        used = sorted(set(self.targets))
        for number, name in enumerate(self.class_names):
            if number not in used:
                self._fault(root / name, f"{root / name} has no image in it, expected one at least of each class")
        if not used:
            raise UserError(f"{root} has no image that can be used; {self.skipped[0][1]}")
        self.class_names = [self.class_names[number] for number in used]
        self.targets = [used.index(target) for target in self.targets]

    def _fault(self, path: Path, reason: str) -> None:
        if self.faulty == "refuse":
            raise ImageError(f"{reason}; {HOW_TO_SKIP}")
        self.skipped.append((path, reason))

    def add_class(self, folder: Path) -> None:
        """Add a class folder and the files in it, however deep."""
        found = []
        for path in self._below(folder, frozenset()):
            if path.suffix.lower() in FORMATS:
                found.append(path)
            else:
                self._fault(path, f"{path} is not named like an image ({', '.join(FORMATS)})")
        found.sort(key=lambda path: (str(path.parent), path.name))
        self.paths += found
        self.targets += [len(self.class_names)] * len(found)
        self.class_names.append(folder.name.encode("utf-8", "backslashreplace").decode())  # a name may be any bytes

    def _below(self, folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
        """The files in a folder and below. A link to a folder that it is in itself is not followed."""
        try:
            status = folder.stat()
            children = visible(folder)
        except OSError as error:
            self._fault(folder, f"cannot read {folder}: {error.strerror or one_line(error)}")
            return
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        for child in children:
            if os.path.isdir(child):
                yield from self._below(child, above | {here})
            else:
                yield child


def visible(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without what is hidden.

    Raises:
        OSError: the folder cannot be read.
    """
    names = [name for name in os.listdir(folder) if not name.startswith(".") and name.lower() not in _IGNORED]
    return [folder / name for name in sorted(names)]


def find_image_files(root: str | os.PathLike[str], faulty: Faulty = "refuse") -> ImageFiles:
    """The files by class. None of them is opened; those that are named like no image are faulty.

    Files beside the class folders, such as a licence, are not looked at.

    Raises:
        UserError: `root` is not a folder, cannot be read, or has no class folders.
        ImageError: something is faulty, and is to be refused.
        ValueError: another `faulty` than these two.
    """
    if faulty not in ("refuse", "skip"):
        raise ValueError(f'find_image_files: given faulty={faulty!r}, expected "refuse" or "skip"')
    root = Path(root)
    try:
        children = visible(root)
    except OSError as error:
        raise UserError(f"cannot read the folder {root}: {error.strerror or one_line(error)}") from error
    folders = [child for child in children if os.path.isdir(child)]
    if not folders:
        images = sum(child.suffix.lower() in FORMATS for child in children)
        beside = f"; {images} image(s) in it belong to no class" if images else ""
        raise UserError(f"{root} has no folders in it, expected one for each class with its images{beside}")
    files = ImageFiles(faulty)
    for folder in folders:
        files.add_class(folder)
    return files
