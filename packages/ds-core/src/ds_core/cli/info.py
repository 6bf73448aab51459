"""What `ds info` tells: the versions and devices here, and what a run folder holds."""

import os
import platform
import warnings
from pathlib import Path
from typing import Any

import torch

from ds_core.speed.compiled import has_compiler
from ds_core.training.checkpoint import describe_checkpoint
from ds_core.training.history import FINAL, read_log
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE, read_run_folder
from ds_core.training.versions import installed_versions

Table = list[tuple[str, str]]


def environment_table() -> Table:
    """Names and values: versions, torch's build, devices, threads, C++ compiler."""
    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler = has_compiler()
    return [
        *installed_versions().items(),
        ("torch build", f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("devices", ", ".join(["cpu", *(f"cuda:{index} ({name})" for index, name in enumerate(cuda))])),
        ("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores"),
        ("C++ compiler", "found" if compiler else "not found: compiled training needs one"),
    ]


def folder_table(folder: Path) -> Table:
    """Names and values: recipe, versions, options, and how far the run has come.

    Raises:
        UserError: no run folder, or its checkpoint is damaged.
    """
    record = read_run_folder(folder)
    table = [
        ("recipe", record.recipe),
        ("written with", ", ".join(f"{package} {version}" for package, version in record.versions.items())),
    ]
    path = folder / CHECKPOINT_FILE
    if path.exists():
        found = describe_checkpoint(path)
        trained = found.extra.get("trainer", {})
        table += [("step", str(found.step)), ("checkpoint", f"{path} ({path.stat().st_size / 1e6:.1f} MB)")]
        best = _best(folder, trained.get("best"))
        if best is not None:
            table.append(("best loss", f"{best['loss']:.4f} at step {best['step']}"))
        if trained.get("stopped"):
            table.append(("stopped", trained["stopped"]))
    else:
        table.append(("step", "no checkpoint yet"))
    return [*table, *((f"--{name.replace('_', '-')}", str(value)) for name, value in record.options.items())]


def _best(folder: Path, saved: dict[str, Any] | None) -> dict[str, Any] | None:
    """The best evaluation: that of the checkpoint, or the one at the end of the run, which only the log has.

    Raises:
        UserError: the log is not ours.
    """
    best, log = saved, folder / LOG_FILE
    for record in read_log(log) if log.exists() else ():
        loss = record.get("loss")
        if record.get(FINAL) is True and loss is not None and (best is None or loss < best["loss"]):
            best = {"step": record["step"], "loss": loss}
    return best
