"""All that must be green, one step after the other, with the seconds that each took.

hatch run check                    every step, up to the first that fails
hatch run check lint "test tools"  only these

A step is a script of pyproject.toml with its arguments. `isolate` runs the tests of every package from its wheel, so
`test` only runs those of tools/ here. `hatch run test` runs them all in the workspace.
"""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from workspace import ROOT, read_toml

STEPS = (
    "lint",
    "types",
    "imports",
    "primitives",
    "dependencies",
    "versions",
    "docs",
    "notebooks --check",
    "test tools",
    "isolate",
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    environments = read_toml(root / "pyproject.toml")["tool"]["hatch"]["envs"]
    scripts: dict[str, str | list[str]] = environments["default"]["scripts"]
    took: list[tuple[str, float]] = []
    failed = None
    for step in list(sys.argv[1:] if arguments is None else arguments) or STEPS:
        name, *words = shlex.split(step)
        if name not in scripts:
            print(f"check: pyproject.toml has no script {name}; it has {', '.join(scripts)}")
            return 2
        print(f"\n== {step}", flush=True)
        start = time.monotonic()
        ok = all(subprocess.run(command, cwd=root).returncode == 0 for command in _commands(scripts[name], words))
        took.append((step, time.monotonic() - start))
        if not ok:
            failed = step
            break
    print("\nseconds  step")
    for step, seconds in [*took, ("in all", sum(seconds for _, seconds in took))]:
        print(f"{seconds:7.0f}  {step}")
    print(f"check: {f'{failed} failed' if failed else 'ok'}")
    return 1 if failed else 0


def _commands(script: str | list[str], words: Sequence[str]) -> Iterator[list[str]]:
    """The commands of a script, with these arguments in place of {args} or {args:default}, as hatch does it."""
    for command in [script] if isinstance(script, str) else script:
        yield shlex.split(re.sub(r"\{args(?::([^}]*))?\}", lambda found: shlex.join(words) or found[1] or "", command))


if __name__ == "__main__":
    sys.exit(main())
