"""Files from the network, with a checksum, into a cache."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm  # type: ignore[import-untyped]

from ds_core.errors import UserError, WriteError, needs_extra, one_line

if TYPE_CHECKING:
    import requests

# pooch and requests are imported where they are needed: together they take as long as the rest of a small program

_TIMEOUT = 30  # seconds without a byte
_TRIES = 5  # of one address, as long as each brings the file forward
_PIECE = 2**16


class DownloadError(UserError):
    """A file could not be had from any of its addresses; the message says where to put it by hand."""

    exit_status = 1


def cache_folder() -> Path:
    """Where downloads are kept: the folder that the environment variable DS_HOME names, or the system's for caches.

    Raises:
        MissingPackageError: DS_HOME is not set, and pooch is not installed.
    """
    home = os.environ.get("DS_HOME")
    if home:
        return Path(home).expanduser()
    with needs_extra("data", "finding the system's folder for caches"):
        import pooch  # type: ignore[import-untyped]
    return Path(pooch.os_cache("deepscratch"))


def download(
    name: str, urls: Sequence[str], known_hash: str, folder: str | Path | None = None, progress: bool = True
) -> Path:
    """The file `name` with the checksum `known_hash`, from the cache or else from the first of `urls` that has it.

    What has arrived of a download that is cut off stays as `.NAME.part`, and the next one goes on from there if the
    server can. Only a whole file with the right checksum ever bears the name. Several processes may ask at once: one
    downloads, the others wait.

    Args:
        name: of the file in the cache.
        urls: where it can be had, tried in this order.
        known_hash: as pooch writes them, "md5:..." or "sha256:...".
        folder: where it is kept; None: `cache_folder()`.
        progress: whether a bar is shown on stderr.

    Raises:
        DownloadError: no address has the file, or only one with another checksum.
        WriteError: the folder cannot be written.
        MissingPackageError: what downloads need is not installed.
    """
    with needs_extra("data", f"downloading {name}"):
        import filelock
        import pooch  # noqa: F401 - with requests, for the functions below
        import requests  # noqa: F401
    path = (cache_folder() if folder is None else Path(folder)) / name
    if path.exists() and _checksum(path, known_hash) == known_hash:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f".{name}.lock")):
            return _from_any(path, urls, known_hash, progress)
    except OSError as error:
        raise WriteError(
            f"cannot write {name} into {path.parent}: {error.strerror or one_line(error)}; "
            "the environment variable DS_HOME names another folder"
        ) from error


def _from_any(path: Path, urls: Sequence[str], known_hash: str, progress: bool) -> Path:
    import pooch

    downloader = _Continued(path, known_hash, progress)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # the bar says it already
    faults = []
    try:
        for url in urls:
            try:
                return Path(pooch.retrieve(url, known_hash, path.name, path.parent, downloader=downloader))
            except _FaultError as fault:
                faults.append(f"{url}: {fault}")
    finally:
        logger.setLevel(level)
    there = f"; the one there now has {_checksum(path, known_hash)}" if path.exists() else ""
    raise DownloadError(
        f"cannot download {path.name}: {'; '.join(faults)}. Without a network put a copy at {path}, "
        f"with the checksum {known_hash}{there}"
    )


class _FaultError(Exception):
    """Why one address does not serve."""


class _Continued:
    """A downloader for `pooch.retrieve` that goes on where an earlier one was cut off."""

    def __init__(self, path: Path, known_hash: str, progress: bool) -> None:
        self.part = path.with_name(f".{path.name}.part")
        self.name = path.name
        self.known_hash = known_hash
        self.progress = progress

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        had = self._fill(url)
        found = _checksum(self.part, self.known_hash)
        if found != self.known_hash and had:  # what was there before may have been of another file
            self.part.unlink()
            self._fill(url)
            found = _checksum(self.part, self.known_hash)
        if found != self.known_hash:
            self.part.unlink()
            raise _FaultError(f"the checksum is {found}, expected {self.known_hash}; the file was removed")
        os.replace(self.part, output_file)

    def _fill(self, url: str) -> int:
        """Bring the part to its end -> bytes that were there before."""
        import requests

        at_first = had = self._size()
        for _ in range(_TRIES):
            try:
                self._request(url, had)
                return at_first
            except requests.RequestException as error:
                if self._size() <= had:
                    raise _FaultError(_reason(error)) from error
                had, last = self._size(), error
        raise _FaultError(f"cut off {_TRIES} times: {_reason(last)}") from last

    def _request(self, url: str, had: int) -> None:
        import requests

        headers = {"Accept-Encoding": "identity"}  # the bytes of the file, which the checksum is of
        if had:
            headers["Range"] = f"bytes={had}-"
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if had and response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # all is there, or it is not of this file: the checksum tells
            response.raise_for_status()
            continued = response.status_code == requests.codes.partial_content
            if continued and not response.headers.get("Content-Range", "").startswith(f"bytes {had}-"):
                raise requests.ConnectionError("the server sends another part of the file than it was asked for")
            self._receive(response, had if continued else 0)

    def _receive(self, response: "requests.Response", start: int) -> None:
        import requests

        length = response.headers.get("Content-Length", "")
        end = start + int(length) if length.isdigit() else None
        bar = tqdm(desc=self.name, total=end, initial=start, unit="B", unit_scale=True, disable=not self.progress)
        with bar, self.part.open("ab" if start else "wb") as file:
            for piece in response.iter_content(_PIECE):
                file.write(piece)
                bar.update(len(piece))
            if end is not None and file.tell() < end:  # urllib3 before 2.0 does not tell
                raise requests.ConnectionError(f"cut off after {file.tell()} of {end} bytes")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _checksum(path: Path, like: str) -> str:
    """Of the same kind as `like`, and written as it is."""
    import pooch

    kind = like.partition(":")[0]
    return f"{kind}:{pooch.file_hash(str(path), alg=kind)}"


def _reason(error: "requests.RequestException") -> str:
    """What went wrong, without the classes that it went through."""
    import requests

    if error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {_TIMEOUT} seconds"
    cause: Any = error
    while cause.args and isinstance(cause.args[0], Exception):
        cause = cause.args[0]
    cause = getattr(cause, "reason", None) or (cause.args[0] if cause.args else cause)
    return one_line(cause).rpartition(">: ")[2]  # urllib3 before 2.0 begins with <... object at 0x...>
