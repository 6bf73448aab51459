"""What `ds info` tells: the versions and devices here, and what a run folder holds."""

import os
import platform
import warnings
from pathlib import Path

import torch

from ds_core.speed.compiled import has_compiler
from ds_core.training.checkpoint import describe_checkpoint
from ds_core.training.run_folder import CHECKPOINT_FILE, read_run_folder
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
        if trained.get("best"):
            table.append(("best loss", f"{trained['best']['loss']:.4f} at step {trained['best']['step']}"))
        if trained.get("stopped"):
            table.append(("stopped", trained["stopped"]))
    else:
        table.append(("step", "no checkpoint yet"))
    return [*table, *((f"--{name.replace('_', '-')}", str(value)) for name, value in record.options.items())]
