"""Data sets by name: scikit-learn's, MNIST's format from a server and from folders, California housing."""

import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest
import sklearn.datasets
import torch
from ds_core import UserError
from ds_core.data import DATA_SETS, DownloadError, california_housing, digit_images, load
from file_server import FileServer
from idx_files import idx

SIZES = {"digits": (1797, (1, 8, 8), 10), "iris": (150, (4,), 3), "wine": (178, (13,), 3)}
SIZES |= {"breast_cancer": (569, (30,), 2), "diabetes": (442, (10,), None)}
HOUSES = """\
-122.230000,37.880000,41.000000,880.000000,129.000000,322.000000,126.000000,8.325200,452600.000000
-122.220000,37.860000,21.000000,7099.000000,1106.000000,2401.000000,1138.000000,8.301400,358500.000000
-122.240000,37.850000,52.000000,1467.000000,190.000000,496.000000,177.000000,7.257400,352100.000000
-119.560000,36.510000,37.000000,1018.000000,213.000000,663.000000,204.000000,1.663500,67000.000000
"""


def images(seed, count):
    """`count` images and labels of all ten classes, as the bytes of IDX files."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 28, 28))
    return idx(pixels, 0x08), idx(np.arange(count) % 10, 0x08)


FILES = dict(zip(digit_images.FILES, [*images(0, 40), *images(1, 20)], strict=True))


def parts(data):
    return [data.train, data.validation, data.test]


@pytest.mark.parametrize("name", SIZES)
def test_those_of_scikit_learn(name):
    count, shape, classes = SIZES[name]
    data = load(name)
    assert [len(part) for part in parts(data)] == pytest.approx([0.8 * count, 0.1 * count, 0.1 * count], abs=1)
    assert sum(len(part) for part in parts(data)) == count
    twin = getattr(sklearn.datasets, "load_" + name)(**({"scaled": False} if name == "diabetes" else {}))
    rows = torch.cat([part.tensors[0].double().flatten(1) for part in parts(data)])
    targets = torch.cat([part.tensors[1].double() for part in parts(data)])
    found = torch.cat([rows, targets[:, None]], 1)
    scale = 16 if name == "digits" else 1
    expected = torch.from_numpy(np.column_stack([twin.data.astype(np.float32) / scale, twin.target]))
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, expected.tolist()))
    for part in parts(data):
        inputs, target = part.tensors
        assert inputs.shape[1:] == shape
        assert inputs.dtype == torch.float32
        assert target.dtype == (torch.float32 if classes is None else torch.int64)
        if classes is not None:
            assert target.bincount(minlength=classes).min() > 0
    assert (data.name, data.task) == (name, "regression" if classes is None else "classification")
    assert data.class_names is None if classes is None else len(data.class_names) == classes
    assert len(data.feature_names) == (0 if name == "digits" else shape[0])
    assert data.description == twin.DESCR


def test_images_are_scaled_or_left():
    scaled, left = load("digits").train.tensors[0], load("digits", dtype=torch.uint8).train.tensors[0]
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert (left.dtype, left.min(), left.max()) == (torch.uint8, 0, 16)
    assert torch.equal(scaled, left / 16)


def test_dtype_device_and_shares():
    data = load("diabetes", dtype=torch.float64, device="meta", validation=0, test=0.25)
    assert [len(part) for part in parts(data)] == [332, 0, 110]
    for part in parts(data):
        assert {tensor.device.type for tensor in part.tensors} == {"meta"}
        assert {tensor.dtype for tensor in part.tensors} == {torch.float64}
    assert {tensor.device.type for tensor in load("iris", device="meta").test.tensors} == {"meta"}
    assert len(load("iris", validation=0.2, test=0).test) == 0


def test_the_seed_draws_the_split():
    first, again, other = (load("iris", seed=seed).test.tensors[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("options", [{"validation": -0.1}, {"validation": 0.5, "test": 0.5}, {"test": 1.5}])
def test_shares_that_leave_nothing(options):
    with pytest.raises(ValueError, match="expected shares of less than 1"):
        load("iris", **options)


def test_names_and_options_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match=r"unknown data set 'minst'; did you mean mnist\? \(there are breast_cancer, "):
        load("minst")
    with pytest.raises(UserError, match="iris comes with scikit-learn"):
        load("iris", folder=tmp_path)
    with pytest.raises(ValueError, match=r"torch.uint8 for iris, expected a floating-point one$"):
        load("iris", dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"torch.int64 for digits, expected a floating-point one or torch.uint8$"):
        load("digits", dtype=torch.int64)
    assert {*SIZES, "mnist", "fashion_mnist", "cifar10", "california_housing"} == set(DATA_SETS)


@pytest.fixture
def folder(tmp_path):
    """MNIST's files, compressed, under `names`; None leaves one out."""

    def write(files=FILES, rename=lambda name: name, pack=lambda content: gzip.compress(content, mtime=0)):
        for name, content in files.items():
            (tmp_path / rename(name)).write_bytes(pack(content))
        return tmp_path

    return write


def as_text(part):
    images, labels = part.tensors
    return [(image.tobytes(), label) for image, label in zip(images.numpy(), labels.tolist(), strict=True)]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("form", ["gz", "plain", "dots"])
def test_images_of_a_folder(folder, name, form):
    if form == "gz":
        place = folder()
    else:
        end = {"plain": "-idx", "dots": ".idx"}[form]
        place = folder(rename=lambda file: file.removesuffix(".gz").replace("-idx", end), pack=bytes)
    data = load(name, folder=place, validation=0.25, dtype=torch.uint8)
    assert [len(part) for part in parts(data)] == [30, 10, 20]
    pixels = np.frombuffer(FILES[digit_images.FILES[0]][16:], np.uint8).reshape(40, 1, 28, 28)
    expected = sorted((image.tobytes(), number % 10) for number, image in enumerate(pixels))
    assert sorted(as_text(data.train) + as_text(data.validation)) == expected
    assert data.validation.tensors[1].bincount().tolist() == [1] * 10
    assert data.test.tensors[1].tolist() == [*range(10), *range(10)]  # as published
    assert len(data.class_names) == 10
    scaled = load(name, folder=place, validation=0.25)
    assert torch.equal(scaled.train.tensors[0], data.train.tensors[0] / 255)
    assert scaled.train.tensors[0].dtype == torch.float32
    assert len(load(name, folder=place, validation=0).train) == 40


@pytest.mark.parametrize(
    ("number", "content", "message"),
    [
        (0, idx(np.zeros((40, 28, 27)), 0x08), r"train-images.* holds uint8 of shape \(40, 28, 27\), expected uint8"),
        (0, idx(np.zeros((40, 28, 28)), 0x0B), r"train-images.* holds int16 of shape"),
        (2, idx(np.zeros((40, 28)), 0x08), r"t10k-images.* has 2 dimension\(s\), expected 3"),
        (1, idx(np.zeros(39), 0x08), "train-labels.* holds 39 labels, expected one for each of 40 images"),
        (3, idx(np.arange(20), 0x08), "t10k-labels.* holds the label 10, expected 0 to 9"),
        (3, idx(-np.ones(20), 0x09), "t10k-labels.* holds the label -1, expected 0 to 9"),
    ],
)
def test_images_that_are_not_as_they_should_be(folder, number, content, message):
    with pytest.raises(UserError, match=message):
        load("mnist", folder=folder({**FILES, digit_images.FILES[number]: content}))


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(UserError, match=r"has no train-images-idx3-ubyte.gz; expected it, or .* or train-images\.idx3"):
        load("mnist", folder=tmp_path)
    with pytest.raises(UserError, match=r"has no cal_housing.tgz; expected it, or cal_housing.data or California"):
        load("california_housing", folder=tmp_path)


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DS_HOME", str(tmp_path / "home"))
    found = FileServer()
    yield found
    found.close()


def test_images_are_downloaded_once(server, monkeypatch, tmp_path):
    server.files = {f"mirror/{name}": gzip.compress(content, mtime=0) for name, content in FILES.items()}
    published = digit_images.Published(
        mirrors=(server.url + "gone/", server.url + "mirror/"),
        md5=tuple(hashlib.md5(content).hexdigest() for content in server.files.values()),
        class_names=tuple("abcdefghij"),
        description="",
    )
    monkeypatch.setitem(digit_images.PUBLISHED, "mnist", published)
    data = load("mnist", progress=False)
    assert [len(part) for part in parts(data)] == [36, 4, 20]
    file = digit_images.FILES[0]
    assert [path for path, _ in server.requests][:2] == [f"gone/{file}", f"mirror/{file}"]
    assert len(server.requests) == 8
    assert torch.equal(load("mnist", progress=False).train.tensors[0], data.train.tensors[0])
    assert len(server.requests) == 8
    assert (tmp_path / "home" / "mnist" / "t10k-labels-idx1-ubyte.gz").exists()


def archive(text=HOUSES, name="CaliforniaHousing/cal_housing.data"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    return file.getvalue()


def test_california_housing_is_where_scikit_learn_finds_it():
    twin = sklearn.datasets._california_housing.ARCHIVE
    assert (california_housing.URLS[0], california_housing.SHA256) == (twin.url, twin.checksum)


def test_california_housing_is_as_scikit_learn_reads_it(server, monkeypatch, tmp_path):
    server.files["houses"] = archive()
    monkeypatch.setattr(california_housing, "URLS", (server.url + "houses",))
    monkeypatch.setattr(california_housing, "SHA256", hashlib.sha256(archive()).hexdigest())
    for _ in range(2):
        source = california_housing.california_housing(progress=False)
    assert len(server.requests) == 1
    copy = tmp_path / "copy.tgz"
    copy.write_bytes(archive())
    monkeypatch.setattr(sklearn.datasets._california_housing, "_fetch_remote", lambda *_, **__: str(copy))
    twin = sklearn.datasets.fetch_california_housing(data_home=tmp_path)
    inputs, target = source.rows
    assert torch.equal(inputs, torch.from_numpy(twin.data))
    assert torch.equal(target, torch.from_numpy(twin.target))
    assert list(source.feature_names) == twin.feature_names
    data = load("california_housing", validation=0.25, test=0.25, progress=False)
    assert [len(part) for part in parts(data)] == [2, 1, 1]
    assert (data.task, data.class_names, data.test.tensors[1].dtype) == ("regression", None, torch.float32)


@pytest.mark.parametrize("name", ["cal_housing.data", "CaliforniaHousing/cal_housing.data", "cal_housing.tgz"])
def test_california_housing_of_a_folder(tmp_path, name):
    (tmp_path / "CaliforniaHousing").mkdir()
    (tmp_path / name).write_bytes(archive() if name.endswith("tgz") else HOUSES.encode())
    inputs, target = california_housing.california_housing(tmp_path).rows
    assert inputs[0].tolist() == pytest.approx([8.3252, 41, 880 / 126, 129 / 126, 322, 322 / 126, 37.88, -122.23])
    assert target.tolist() == pytest.approx([4.526, 3.585, 3.521, 0.67])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "is a damaged archive"),
        (archive()[:-40], "is a damaged archive"),
        (archive()[:60] + bytes(20) + archive()[80:], "is a damaged archive"),
        (archive(name="other"), r"has no CaliforniaHousing/cal_housing\.data in it"),
        (archive("1,2,3\n"), r"holds numbers of shape \(1, 3\), expected 9"),
        (archive(HOUSES.replace("41.", "x.")), "is not as it should be: could not convert string 'x.000000'"),
        (archive(HOUSES.replace("41.000000", "nan")), "expected 9 finite ones"),
        (archive(HOUSES.replace("1138.", "0.")), "line 2: a district without households"),
    ],
)
def test_a_housing_file_that_is_not_as_it_should_be(tmp_path, content, message):
    (tmp_path / "cal_housing.tgz").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load("california_housing", folder=tmp_path)
    assert str(tmp_path / "cal_housing.tgz") in str(error.value)
    assert "\n" not in str(error.value)


def test_without_a_network(server, monkeypatch):
    monkeypatch.setattr(california_housing, "URLS", (server.url + "gone",))
    with pytest.raises(DownloadError, match=r"HTTP 404 Not Found\. Without a network put a copy at .*home/california_"):
        load("california_housing", progress=False)


def test_libraries_are_imported_when_they_are_needed(imported):
    assert {"ds_core.data.datasets", "ds_core.data.loader", "ds_core.data.tables"} <= imported
    assert not {"sklearn", "pooch", "requests", "scipy"} & imported
