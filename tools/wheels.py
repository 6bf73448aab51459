"""Build the wheel of every package. Torch is not needed for that.

hatch run build:wheels          into dist/
hatch run build:wheels FOLDER   into another folder
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from uv import find_uv_bin
from workspace import ROOT, Package, packages

UV = find_uv_bin()  # once: it is not safe among threads


class CommandError(Exception):
    """A command that failed, with what it printed."""


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=root / "dist", help="default: dist")
    folder = parser.parse_args(arguments).folder
    for package in packages(root):
        try:
            build(package, folder)
        except CommandError as error:
            print(f"{package.name}: does not build\n{error}")
            return 1
        print(f"{package.name}: ok")
    return 0


def build(package: Package, folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Put the wheel of `package` into `folder`. Raises `CommandError`."""
    run(environment, UV, "build", "--wheel", "--out-dir", folder, package.folder)


def run(environment: Mapping[str, str], *command: str | Path, cwd: Path | None = None) -> str:
    """What the command printed. Raises `CommandError`."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        raise CommandError(f"$ {shlex.join(words)}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
