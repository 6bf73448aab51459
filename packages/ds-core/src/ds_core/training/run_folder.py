"""The folder of one run: made for it alone, and resumed with the options that the run began with."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ds_core.atomic_files import is_leftover, remove_leftovers, write_atomically
from ds_core.distributed.processes import current
from ds_core.errors import UserError, did_you_mean, one_line
from ds_core.options import build_options, from_json, json_value, specs, to_json
from ds_core.training.folder_lock import LOCK_FILE, hold_folder, release_folder
from ds_core.training.run_options import RunOptions
from ds_core.training.versions import installed_versions

RECIPE_FILE = "recipe.json"
CHECKPOINT_FILE = "checkpoint.safetensors"
LOG_FILE = "log.jsonl"

_FORMAT = "ds-run"
_VERSION = 1
_SAVED = "saved"
# Options that are given anew each time: the record of a run does not hold them
_NOT_STORED = ("out", "resume", "overwrite")


class RunRecord(NamedTuple):
    """What `recipe.json` says: the recipe, its options as JSON, the versions that wrote it, the files it may leave.

    `saved` is whether the run has written a checkpoint.
    """

    recipe: str
    options: dict[str, Any]
    versions: dict[str, str]
    files: list[str]
    saved: bool = False


R = TypeVar("R", bound=RunOptions)


def open_run_folder(recipe: str, options: RunOptions, files: Iterable[str] = ()) -> Path:
    """Make the folder `options.out` for a new run of `recipe`, or check the one to be resumed.

    A new run's options are written to `recipe.json` in it. Those of a resumed one are not yet, since the checkpoint
    may still refuse them: call `store_options` once it is loaded. With `options.overwrite` all files of the run that
    is there are deleted first.

    Of several processes rank 0 does it, while the others wait.

    Args:
        files: names of the files that the recipe may leave in the folder beside `recipe.json`, checkpoint and log.

    Raises:
        UserError: the folder is not empty (and neither resumed nor overwritten), holds something else, cannot be
            written, is in use by another run, or holds a run that began with other options.
    """
    with folder_of_a_run(options):
        return current().on_first(lambda: _open(recipe, options, files))


def _open(recipe: str, options: RunOptions, files: Iterable[str]) -> Path:
    folder = Path(options.out)
    if options.resume:
        _check_resumed(recipe, options, read_run_folder(folder))
    else:
        _make_room(recipe, folder, options.overwrite)
    remove_leftovers(folder)
    if not options.resume:
        store_options(recipe, options, files)
    return folder


@contextmanager
def folder_of_a_run(options: RunOptions) -> Iterator[None]:
    """Inside, no other run can use the folder `options.out`, which is made unless it is to be resumed.

    What opens the folder, trains and writes results does all of it inside, as `Run` does; a Trainer of the same
    process, one at a time, may use the folder. Of several processes rank 0 locks it.

    Raises:
        UserError: another run trains in it, or it cannot be made.
    """
    held: list[Path] = []
    current().on_first(lambda: _hold(Path(options.out), not options.resume, held))
    try:
        yield
    finally:
        for folder in held:
            release_folder(folder)


def _hold(folder: Path, make: bool, held: list[Path]) -> None:
    if make:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(folder, error) from error
    if folder.is_dir():
        hold_folder(folder)
        held.append(folder)


def store_options(recipe: str, options: RunOptions, files: Iterable[str] = ()) -> None:
    """Write `recipe.json`: the options that a later `--resume` begins with, and the `files` of `open_run_folder`.

    Of several processes rank 0 does it.

    Raises:
        WriteError: it cannot be written; the one before is still there.
    """
    record = {
        "format": _FORMAT,
        "version": _VERSION,
        "recipe": recipe,
        "versions": installed_versions(),
        "options": {name: value for name, value in to_json(options).items() if name not in _NOT_STORED},
        "files": list(files),
    }
    if current().first:
        if options.resume and was_saved(options.out):
            record[_SAVED] = True
        _write(Path(options.out), record)


def note_checkpoint(folder: str | Path) -> None:
    """Write into `recipe.json`, if there is one, that the run has a checkpoint, unless it says so already.

    A checkpoint that is missing later was lost; without the note, the run was killed before its first one.

    Raises:
        WriteError: it cannot be written; the one before is still there.
    """
    record = _read(Path(folder))
    if record is not None and not record.get(_SAVED):
        _write(Path(folder), {**record, _SAVED: True})


def was_saved(folder: str | Path) -> bool:
    """Whether `recipe.json` says that the run has written a checkpoint."""
    return bool((_read(Path(folder)) or {}).get(_SAVED))


def _read(folder: Path) -> dict[str, Any] | None:
    """What `recipe.json` holds, None if it is missing or not ours."""
    try:
        record = json.loads((folder / RECIPE_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("format") == _FORMAT else None


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    write_atomically(folder / RECIPE_FILE, json.dumps(record, indent=2) + "\n")


def read_run_folder(folder: str | Path) -> RunRecord:
    """What run a folder holds.

    Raises:
        UserError: it does not exist, holds no run, or its `recipe.json` is damaged or newer.
    """
    folder = Path(folder)
    path = folder / RECIPE_FILE
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}: there is no such folder")
    if not path.is_file():
        raise UserError(f"{folder} is not a run folder: it holds no {RECIPE_FILE}")
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise UserError(f"{path} was not written by ds")
    if not isinstance(record.get("version"), int) or record["version"] > _VERSION:
        raise UserError(f"{path} was written by a newer version (format {record.get('version')}): upgrade ds-core")
    recipe, options, versions = record.get("recipe"), record.get("options"), record.get("versions")
    if not (isinstance(recipe, str) and isinstance(options, dict) and isinstance(versions, dict)):
        raise UserError(f"{path} is damaged: recipe, options or versions are missing")
    files = record.get("files", [])
    if not (isinstance(files, list) and all(isinstance(name, str) and Path(name).name == name for name in files)):
        raise UserError(f"{path} is damaged: expected files to be a list of names")
    return RunRecord(recipe, options, versions, files, bool(record.get(_SAVED)))


def remove_files(folder: str | Path, record: RunRecord) -> None:
    """Delete the checkpoint, the log and the other files of the run in `folder`, but not its `recipe.json`."""
    for name in (CHECKPOINT_FILE, LOG_FILE, *record.files):
        (Path(folder) / name).unlink(missing_ok=True)


def resumed_options(options: type[R], folder: str | Path, given: Mapping[str, Any]) -> R:
    """The options the run in `folder` began with, and on top of them those `given` now.

    Raises:
        UserError: no run there, or an option is given another value that must not change in the middle of a run.
    """
    record = read_run_folder(folder)
    known = {spec.name: spec for spec in specs(options)}
    for name in record.options:
        if name not in known:
            raise UserError(
                f"{Path(folder) / RECIPE_FILE}: unknown option {name}{did_you_mean(name, known)}; "
                f"the run was started with {_listed(record.versions)}"
            )
    values = from_json(options, record.options)
    changed = {
        name: (values[name], value)
        for name, value in given.items()
        if name in values and not known[name].may_change and json_value(values[name]) != json_value(value)
    }
    _refuse(changed, (name for name in known if known[name].may_change), folder)
    return build_options(options, {**values, **given, "out": Path(folder), "resume": True})


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(f"cannot use {folder} as run folder: {error.strerror or one_line(error)}")


def _make_room(recipe: str, folder: Path, overwrite: bool) -> None:
    try:
        content = sorted(path.name for path in folder.iterdir() if path.name != LOCK_FILE and not is_leftover(path))
        probe = folder / ".writable.0.tmp"
        probe.mkdir(exist_ok=True)
        probe.rmdir()
    except OSError as error:
        raise _unusable(folder, error) from error
    if not content:
        return
    if RECIPE_FILE not in content:
        raise UserError(f"{folder} is not empty and holds no run ({_some(content)}): give another folder with --out")
    try:
        record = read_run_folder(folder)
    except UserError as error:
        raise UserError(f"{error}; delete the folder, or give another one with --out") from error
    if not overwrite:
        resume = "--resume continues it, " if record.recipe == recipe else ""
        raise UserError(
            f"{folder} already holds a run of {record.recipe}: {resume}--overwrite starts again, "
            "--out takes another folder"
        )
    remove_files(folder, record)


def _check_resumed(recipe: str, options: RunOptions, record: RunRecord) -> None:
    if record.recipe != recipe:
        raise UserError(f"{options.out} holds a run of {record.recipe}, not of {recipe}")
    known = {spec.name: spec for spec in specs(type(options))}
    stored = from_json(type(options), record.options)
    changed = {
        name: (value, getattr(options, name))
        for name, value in stored.items()
        if name in known and not known[name].may_change and json_value(value) != json_value(getattr(options, name))
    }
    _refuse(changed, (name for name in known if known[name].may_change), options.out)


def _refuse(changed: Mapping[str, tuple[Any, Any]], may_change: Iterable[str], folder: str | Path) -> None:
    if changed:
        others = ", ".join("--" + name.replace("_", "-") for name in may_change if name not in _NOT_STORED)
        listed = "; ".join(
            f"--{name.replace('_', '-')}: given {_in_words(now)}, the run began with {_in_words(before)}"
            for name, (before, now) in changed.items()
        )
        hint = f" (a resumed run may change {others})" if others else ""
        raise UserError(f"cannot resume {folder} with other options: {listed}{hint}")


def _in_words(value: Any) -> Any:
    return "nothing" if value is None else json_value(value)


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {number}" for package, number in versions.items())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
