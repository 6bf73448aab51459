"""Folders of images by class: which files are found, what is refused, and both ways to decode them."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from ds_cnn import DecodedImages, ImageError, ImageFolder, load_image_folder, read_image
from ds_cnn.images.image_files import find_image_files
from ds_core import ShapeError, UserError
from ds_core.data import Loader, Prefetch, TensorDataset, split
from PIL import Image

BOTH = pytest.mark.parametrize("read", [ImageFolder, load_image_folder])
SKIP_HINT = '; faulty="skip" leaves out what cannot be used'


def write(root, files, size=(4, 3)):
    """Images under `root`, the n-th all of colour n."""
    for number, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number, 2 * number, 3 * number)).save(path, "PNG")
    return root


NAMES = ["cats/b.png", "cats/a.JPG", "dogs/a.JPG", "dogs/more/a.JPG", "dogs/a.b/z.png", "emus/only.gif"]


@pytest.fixture
def pets(tmp_path):
    return write(tmp_path / "pets", NAMES)


def names(folder):
    return [str(path.relative_to(folder.paths[0].parents[1])) for path in folder.paths]


@BOTH
def test_classes_paths_and_images(pets, read):
    folder = read(pets)
    assert folder.class_names == ("cats", "dogs", "emus")  # the last with one image
    assert names(folder) == [
        "cats/a.JPG",
        "cats/b.png",
        "dogs/a.JPG",
        "dogs/a.b/z.png",
        "dogs/more/a.JPG",
        "emus/only.gif",
    ]
    assert folder.skipped == ()
    assert len(folder) == 6
    images, targets = folder.rows(slice(0, 6))
    assert (images.shape, images.dtype) == ((6, 3, 3, 4), torch.uint8)
    assert images[:, :, 1, 2].tolist() == [[number, 2 * number, 3 * number] for number in (1, 0, 2, 4, 3, 5)]
    assert (targets.tolist(), targets.dtype) == ([0, 0, 1, 1, 1, 2], torch.int64)
    image, target = folder[3]
    assert torch.equal(image, images[3])
    assert int(target) == 1


def torchvisions(root):
    """Classes and samples as torchvision's ImageFolder makes them (`find_classes`, `make_dataset`)."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    found = []
    for number, name in enumerate(classes):
        for folder, _, files in sorted(os.walk(os.path.join(root, name), followlinks=True)):
            found += [(os.path.join(folder, file), number) for file in sorted(files)]
    return classes, found


def test_the_order_is_torchvisions(tmp_path):
    root = write(tmp_path, ["b/z.png", "b/a/z.png", "b/a.x/y.png", "b/a-/y.png", "b/a/b/c.png", "B/q.png", "10/x.png"])
    classes, samples = torchvisions(root)
    folder = ImageFolder(root)
    assert list(folder.class_names) == classes
    assert [(str(path), target) for path, target in zip(folder.paths, folder.targets.tolist(), strict=True)] == samples


@BOTH
def test_size_channels_and_fit(pets, read):
    Image.new("RGB", (9, 9), (9, 9, 9)).save(pets / "cats/c.png")
    assert read(pets, (5, 6)).rows(slice(None))[0].shape == (7, 3, 5, 6)
    assert read(pets, 8, channels=1, fit="squash").rows(slice(None))[0].shape == (7, 1, 8, 8)
    for folder in (read(pets, 2), ImageFolder(pets, 2)):
        path = pets / "cats/c.png"
        row = folder.paths.index(path)
        assert torch.equal(folder[row][0], read_image(path, 2))


@BOTH
def test_images_of_different_sizes_need_one(pets, read):
    Image.new("RGB", (9, 8)).save(pets / "emus/large.png")
    with pytest.raises(UserError, match=r"a\.JPG has 3 x 4 pixels and .*large\.png has 8 x 9: give a size that all"):
        read(pets).rows(slice(None))


@BOTH
def test_hidden_files_and_those_of_systems_are_not_looked_at(pets, read):
    before = read(pets).paths
    for name in ["cats/.DS_Store", "cats/._a.JPG", "cats/Thumbs.db", "dogs/desktop.ini", ".git/x.png", "licence.txt"]:
        (pets / name).parent.mkdir(exist_ok=True)
        (pets / name).write_bytes(b"?")
    write(pets, ["__MACOSX/cats/._a.png", "beside.png", "cats/.hidden/a.png"])
    assert read(pets).paths == before


FAULTS = {
    "cats/broken.png": (lambda path: path.write_bytes(b"nothing"), "is not an image in one of the formats"),
    "cats/empty.jpg": (Path.touch, r"is empty \(0 bytes\)"),
    "dogs/notes.txt": (lambda path: path.write_text("!"), r"is not named like an image \(\.bmp, \.gif, .*\.webp\)"),
    "dogs/none": (lambda path: path.write_text("!"), "is not named like an image"),
    "emus/more/link.png": (lambda path: path.symlink_to("nowhere.png"), "cannot read .*: No such file or directory"),
    "emus/pipe.png": (os.mkfifo, "is not a file"),
    "fish": (Path.mkdir, "has no image in it, expected one at least of each class"),
}


@BOTH
@pytest.mark.parametrize("name", FAULTS)
def test_what_is_faulty_is_refused_or_skipped(pets, read, name):
    expected = read(pets)
    make, message = FAULTS[name]
    (pets / name).parent.mkdir(exist_ok=True)
    make(pets / name)
    with pytest.raises(ImageError, match=message) as raised:
        read(pets)
    assert str(raised.value).endswith(SKIP_HINT)
    assert str(pets / name) in str(raised.value)
    folder = read(pets, faulty="skip")
    assert (folder.paths, folder.class_names) == (expected.paths, expected.class_names)
    ((path, reason),) = folder.skipped
    assert path == pets / name
    assert str(path) in reason
    for found, wanted in zip(folder.rows(slice(None)), expected.rows(slice(None)), strict=True):
        assert torch.equal(found, wanted)


@BOTH
def test_a_class_without_a_usable_image_is_left_out(pets, read):
    (pets / "dodos").mkdir()
    (pets / "dodos/last.png").write_bytes(b"gone")
    with pytest.raises(ImageError, match=r"last\.png is not an image"):
        read(pets)
    folder = read(pets, faulty="skip")
    assert folder.class_names == ("cats", "dogs", "emus")
    assert folder.rows(slice(None))[1].tolist() == [0, 0, 1, 1, 1, 2]
    assert [path.name for path, _ in folder.skipped] == ["last.png", "dodos"]


def cut(path):
    Image.effect_noise((64, 64), 90).save(path, "JPEG")
    os.truncate(path, path.stat().st_size - 400)


def test_damage_further_on_in_both_ways(pets):
    path = pets / "cats/cut.jpg"
    cut(path)
    message = r"cut\.jpg cannot be decoded: image file is truncated.*" + SKIP_HINT
    with pytest.raises(ImageError, match=message):
        load_image_folder(pets, 3)
    lazy = ImageFolder(pets, 3)  # only beginnings are read
    assert lazy.paths[2] == path
    with pytest.raises(ImageError, match=message):
        lazy.rows(torch.tensor([0, 2]))
    with pytest.raises(ImageError, match=message):
        lazy[2]
    with Prefetch(Loader(lazy, 2, shuffle=False)) as batches, pytest.raises(ImageError, match=message):
        batches.batch(1)
    for read in (ImageFolder, load_image_folder):
        folder = read(pets, 3, faulty="skip")
        assert [skipped for skipped, _ in folder.skipped] == [path]
        assert len(folder) == 6


@BOTH
def test_nothing_to_learn_from(tmp_path, read):
    with pytest.raises(UserError, match=r"cannot read the folder .*gone: No such file or directory"):
        read(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot read the folder .*file: Not a directory"):
        read(tmp_path / "file")
    with pytest.raises(UserError, match=r"has no folders in it, expected one for each class with its images$"):
        read(tmp_path)
    write(tmp_path, ["a.png", "b.png"])
    with pytest.raises(UserError, match=r"has no folders in it, .*; 2 image\(s\) in it belong to no class$"):
        read(tmp_path)
    (tmp_path / "cats").mkdir()
    with pytest.raises(ImageError, match=r"cats has no image in it"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"has no image that can be used; .*cats has no image in it"):
        read(tmp_path, faulty="skip")
    with pytest.raises(ValueError, match=r"faulty='ignore', expected \"refuse\" or \"skip\""):
        read(tmp_path, faulty="ignore")
    with pytest.raises(ValueError, match=r"size=0"):
        read(tmp_path, 0)


@BOTH
def test_links_are_followed_but_not_in_circles(pets, read):
    before = len(read(pets))
    (pets / "cats/self").symlink_to(pets / "cats")
    (pets / "dogs/more/up").symlink_to(pets / "dogs")
    (pets / "emus/a").symlink_to(pets / "emus/b")
    (pets / "emus/b").symlink_to(pets / "emus/a")
    with pytest.raises(ImageError, match="a is not named like an image"):  # leads to no file at all
        read(pets)
    os.remove(pets / "emus/a")
    os.remove(pets / "emus/b")
    assert len(read(pets)) == before
    write(pets.parent / "elsewhere", ["x.png", "y.png"])
    (pets / "cats/linked").symlink_to(pets.parent / "elsewhere")
    (pets / "cats/one.png").symlink_to(pets.parent / "elsewhere/x.png")
    folder = read(pets)
    assert len(folder) == before + 3
    assert [path.name for path in folder.paths][:5] == ["a.JPG", "b.png", "one.png", "x.png", "y.png"]


@BOTH
def test_two_files_of_one_name_are_two_images(tmp_path, read):
    folder = read(write(tmp_path, ["a/1.png", "a/more/1.png", "b/1.png"]))
    assert names(folder) == ["a/1.png", "a/more/1.png", "b/1.png"]
    assert folder.rows(slice(None))[0][:, 0, 0, 0].tolist() == [0, 1, 2]


@BOTH
def test_what_may_not_be_read(pets, read, monkeypatch):
    """An administrator may read everything, so the system is made to refuse."""
    listdir, closed = os.listdir, pets / "dogs/more"

    def refuse(path):
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(ImageError, match="cannot read .*more: Permission denied" + SKIP_HINT):
        read(pets)
    folder = read(pets, faulty="skip")
    assert [path for path, _ in folder.skipped] == [closed]
    assert len(folder) == 5
    closed = pets
    with pytest.raises(UserError, match=r"cannot read the folder .*pets: Permission denied"):
        read(pets, faulty="skip")


@BOTH
def test_a_folder_whose_names_alone_may_be_read(pets, read, monkeypatch):
    stat, closed = os.stat, pets / "dogs/more/a.JPG"

    def refuse(path, *args, **options):
        if path == closed or path == str(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(ImageError, match="cannot read .*a.JPG: Permission denied" + SKIP_HINT):
        read(pets)
    folder = read(pets, faulty="skip")
    assert [path for path, _ in folder.skipped] == [closed]


@BOTH
def test_names_of_any_bytes(tmp_path, read):
    write(tmp_path, ["tigré/猫 $1.png"])
    odd = os.fsencode(tmp_path) + b"/\xff\xfe"
    shutil.copytree(os.fsencode(tmp_path / "tigré"), odd)
    folder = read(tmp_path)
    assert folder.class_names == ("tigré", "\\udcff\\udcfe")
    "".join(folder.class_names).encode()  # can be written into results
    assert len(folder) == 2


def test_decoded_images_are_a_data_set(pets, capsys):
    folder = load_image_folder(pets)
    assert isinstance(folder, TensorDataset)
    assert isinstance(folder, DecodedImages)
    assert capsys.readouterr().err == f"{pets}: 6 images of 3 x 3 x 4 bytes take 0.0 MB\n"
    images, targets = folder.tensors
    assert images.is_contiguous()
    parts = split(folder, (4, 2), seed=1)
    assert sorted(torch.cat([part.tensors[1] for part in parts]).tolist()) == targets.tolist()
    with pytest.raises(ValueError, match=r"split: class 2 has 1 row\(s\), expected at least 2"):
        split(folder, (4, 2), stratify=targets)
    load_image_folder(pets, progress=False)
    assert capsys.readouterr().err == ""


def test_memory_is_asked_for_only_if_it_is_allowed(pets, monkeypatch):
    assert len(load_image_folder(pets, 5, largest_bytes=6 * 75)) == 6
    assert len(load_image_folder(pets, largest_bytes=6 * 36)) == 6
    with pytest.raises(UserError, match="take a smaller size"):
        load_image_folder(pets, largest_bytes=6 * 36 - 1)
    monkeypatch.setattr(Path, "open", None)  # a size that is given is enough to know: nothing is decoded
    message = (
        r"pets: 6 images of 3 x 60000 x 50000 bytes take 54,000\.0 MB, expected at most 4,295\.0 MB: take a smaller "
        "size, allow more with largest_bytes, or decode them batch by batch with ImageFolder"
    )
    with pytest.raises(UserError, match=message):
        load_image_folder(pets, (60_000, 50_000))
    with pytest.raises(UserError, match="take a smaller size"):
        load_image_folder(pets, 5, largest_bytes=6 * 75 - 1)


def test_a_bomb_among_the_images(pets):
    message = r"has 4 x 3 pixels, expected at most 11 in all"
    for read in (ImageFolder, load_image_folder):
        with pytest.raises(ImageError, match=message):
            read(pets, 2, largest_pixels=11)
        with pytest.raises(UserError, match=f"has no image that can be used; .*{message}"):
            read(pets, 2, largest_pixels=11, faulty="skip")


def test_a_loader_draws_the_same_batches_from_both(pets):
    lazy, decoded = ImageFolder(pets, 6), load_image_folder(pets, 6, progress=False)
    with Prefetch(Loader(lazy, 4, seed=3)) as ahead:
        for index in (0, 1, 2, 7, 3):
            for other in (ahead, Loader(lazy, 4, seed=3)):
                for found, wanted in zip(other.batch(index), Loader(decoded, 4, seed=3).batch(index), strict=True):
                    assert torch.equal(found, wanted)
    parts = split(lazy, (4, 2), seed=1)  # of single samples, which are stacked
    images, targets = Loader(parts[0], 4, shuffle=False).batch(0)
    expected, labels = split(decoded, (4, 2), seed=1)[0].tensors
    assert torch.equal(images, expected)
    assert torch.equal(targets, labels)


def test_no_rows(pets):
    with pytest.raises(ShapeError, match="given no numbers"):
        ImageFolder(pets).rows(slice(0, 0))


def test_the_digest_is_of_names_and_lengths(pets):
    first = ImageFolder(pets, 4).digest()
    assert ImageFolder(pets, 4).digest() == first
    assert ImageFolder(pets, 5).digest() != first
    moved = pets.rename(pets.parent / "moved")
    assert ImageFolder(moved, 4).digest() == first
    (moved / "cats/a.JPG").rename(moved / "cats/c.png")
    assert ImageFolder(moved, 4).digest() != first


def test_nothing_is_opened_to_list_files(pets, monkeypatch):
    monkeypatch.setattr(Path, "open", None)
    files = find_image_files(pets)
    assert len(files.paths) == len(NAMES)
