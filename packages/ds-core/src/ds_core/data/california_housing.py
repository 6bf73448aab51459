"""California housing: median house values of 20,640 districts in the census of 1990."""

import gzip
import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ds_core.data.download import cache_folder, download
from ds_core.data.raw_dataset import Source
from ds_core.errors import UserError, one_line

URLS = ("https://ndownloader.figshare.com/files/5976036",)
SHA256 = "aaa5c9a6afe2225cc2aed2723682ae403280c4a3695a2ddda4ffb5d8215ea681"
ARCHIVE = "cal_housing.tgz"
_MEMBER = "CaliforniaHousing/cal_housing.data"
_COLUMNS = 9
_FEATURES = ("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude")
_DESCRIPTION = (
    "California housing: the median value of houses in 20,640 districts, in 100,000 dollars, from the census of 1990. "
    'Pace and Barry, "Sparse spatial autoregressions", 1997.'
)


def california_housing(folder: str | Path | None = None, progress: bool = True) -> Source:
    """The eight features that scikit-learn's `fetch_california_housing` has, (N, 8) float64, and the values (N,).

    Args:
        folder: where cal_housing.tgz or cal_housing.data is; None: it is downloaded, once.
        progress: whether a bar is shown while it is.

    Raises:
        UserError: a file that is not in the folder, cannot be had, or is not as it should be.
    """
    if folder is None:
        path = download(ARCHIVE, URLS, f"sha256:{SHA256}", cache_folder() / "california_housing", progress)
    else:
        path = _find(Path(folder))
    numbers = _read(path)
    longitude, latitude, age, rooms, bedrooms, people, households, income, value = numbers.T
    if not (households > 0).all():
        raise UserError(f"{path}, line {int(households.argmin()) + 1}: a district without households")
    averages = rooms / households, bedrooms / households, people / households
    features = [income, age, *averages[:2], people, averages[2], latitude, longitude]
    return Source(
        rows=(torch.from_numpy(np.stack(features, 1)), torch.from_numpy(value / 100_000)),
        test=None,
        task="regression",
        feature_names=_FEATURES,
        class_names=None,
        description=_DESCRIPTION,
    )


def _find(folder: Path) -> Path:
    names = [ARCHIVE, _MEMBER.split("/")[1], _MEMBER]
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise UserError(f"{folder} has no {ARCHIVE}; expected it, or {' or '.join(names[1:])}")


def _read(path: Path) -> NDArray[np.float64]:
    """(N, 9), the columns as the file has them."""
    try:
        numbers = np.loadtxt(_text(path).splitlines(), delimiter=",", ndmin=2)
    except ValueError as error:
        raise UserError(f"{path} is not as it should be: {one_line(error)}") from error
    if numbers.shape[1] != _COLUMNS or not np.isfinite(numbers).all():
        raise UserError(f"{path} holds numbers of shape {numbers.shape}, expected {_COLUMNS} finite ones in each line")
    return numbers


def _text(path: Path) -> str:
    try:
        if path.suffix != ".tgz":
            return path.read_text("utf-8")
        with tarfile.open(path, "r:gz") as archive:
            file = archive.extractfile(_MEMBER)
            if file is None:
                raise UserError(f"{path}: {_MEMBER} is no file")
            return file.read().decode()
    except KeyError as error:
        raise UserError(f"{path} has no {_MEMBER} in it") from error
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is a damaged archive: {one_line(error)}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
