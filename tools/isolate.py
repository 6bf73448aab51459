"""Each package alone: its wheel in a fresh environment with what it declares and nothing else, its tests run there.

    hatch run isolate                 all packages, two at a time
    hatch run isolate ds-cnn          one of them

The tests are copied out of the checkout, so they can read nothing of it. Siblings come from wheels built here; one
that is not declared must be absent. uv's cache hard-links the files of torch, so five environments cost one copy.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from uv import find_uv_bin
from workspace import ROOT, Package, packages

# Run in the fresh environment before any test tool is there: every module imports with the declared dependencies
# alone, from that environment, and the other packages are not to be found.
IMPORT_ALL = """
import importlib, importlib.util, pkgutil, sys
name, prefix, *absent = sys.argv[1:]
package = importlib.import_module(name)
assert package.__file__.startswith(prefix), f"{name} comes from {package.__file__}"
for module in pkgutil.walk_packages(package.__path__, name + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
found = [other for other in absent if importlib.util.find_spec(other)]
assert not found, f"{found} are there, though {name} does not declare them"
"""

CONSTRAINTS = "tools/constraints.txt"


class CommandError(Exception):
    """A command that failed, with what it printed."""


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    members = packages(root)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="default: all")
    parser.add_argument("--jobs", type=int, default=2, help="packages tested at the same time (default: %(default)s)")
    options = parser.parse_args(arguments)
    unknown = set(options.packages) - {package.name for package in members}
    if unknown:
        parser.error(f"no such package: {', '.join(sorted(unknown))}")
    chosen = [package for package in members if package.name in options.packages or not options.packages]

    with tempfile.TemporaryDirectory(prefix="isolate-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        scratch = Path(folder)
        environment = _environment(scratch)
        _write_constraints(root, scratch, environment)
        for package in members:
            try:
                _run(environment, find_uv_bin(), "build", "--wheel", "--out-dir", scratch / "dist", package.folder)
            except CommandError as error:
                print(f"{package.name}: does not build\n{error}")
                return 1
        results = list(pool.map(lambda package: _isolate(package, members, scratch, environment), chosen))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


def needed_siblings(package: Package, members: Sequence[Package]) -> set[str]:
    """Names of the packages of this workspace that `package` declares, or a declared one declares, tests included."""
    by_name = {member.name: member for member in members}
    needed: set[str] = set()
    waiting = [*package.requirements(), *package.requirements("test")]
    while waiting:
        name = waiting.pop().name
        if name in by_name and name not in needed:
            needed.add(name)
            waiting.extend(by_name[name].requirements())
    return needed


def _isolate(package: Package, members: Sequence[Package], scratch: Path, environment: Mapping[str, str]) -> bool:
    start = time.monotonic()
    try:
        summary = _test_alone(package, members, scratch, environment)
    except CommandError as error:
        print(f"{package.name}: FAILED\n{error}", flush=True)
        return False
    print(f"{package.name}: {summary} [{time.monotonic() - start:.0f} s in all]", flush=True)
    return True


def _test_alone(package: Package, members: Sequence[Package], scratch: Path, environment: Mapping[str, str]) -> str:
    """What pytest said last; raises `CommandError`."""
    home = scratch / package.name
    binaries = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / "python"
    environment = {**environment, "PATH": f"{binaries}{os.pathsep}{environment['PATH']}"}
    wheels = {wheel.name.split("-")[0].replace("_", "-"): wheel for wheel in sorted((scratch / "dist").glob("*.whl"))}
    wheel = wheels.pop(package.name)
    home.mkdir()
    siblings = home / "siblings.txt"
    siblings.write_text("".join(f"{name} @ {path.as_uri()}\n" for name, path in wheels.items()))
    install: list[str | Path] = [find_uv_bin(), "pip", "install", "--python", python]
    install += ["--constraint", siblings, "--constraint", scratch / CONSTRAINTS]
    try:
        _run(environment, find_uv_bin(), "venv", "--python", sys.executable, home / "venv")
        _run(environment, *install, wheel)
        _run(environment, find_uv_bin(), "pip", "check", "--python", python)
        absent = set(wheels) - needed_siblings(package, members)
        modules = [name.replace("-", "_") for name in sorted(absent)]
        prefix = str((home / "venv").resolve())
        _run(environment, python, "-I", "-c", IMPORT_ALL, package.module, prefix, *modules, cwd=home)
        _run(environment, *install, f"{package.name}[test] @ {wheel.as_uri()}")
        shutil.copytree(package.folder / "tests", home / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        printed = _run(
            environment, python, "-m", "pytest", "-q", "--import-mode=importlib", "--rootdir", home, "tests", cwd=home
        )
    finally:
        shutil.rmtree(home / "venv", ignore_errors=True)
    return printed.strip().splitlines()[-1]


def _environment(scratch: Path) -> dict[str, str]:
    """The variables under which uv finds what pip finds, and the tests find nothing of the checkout."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment.setdefault("UV_CACHE_DIR", str(scratch / "cache"))
    environment.setdefault("OMP_NUM_THREADS", "1")
    links = [*environment.get("UV_FIND_LINKS", "").split(","), *_pip_find_links()]
    environment["UV_FIND_LINKS"] = ",".join(filter(None, dict.fromkeys(links)))
    return environment


def _write_constraints(root: Path, scratch: Path, environment: Mapping[str, str]) -> None:
    """The development versions; and, where torch's CPU build is at hand, no gigabytes of CUDA: fail rather than fetch.

    For the command line: an option there makes uv forget the variable UV_CONSTRAINT.
    """
    lines = (root / CONSTRAINTS).read_text() if (root / CONSTRAINTS).exists() else ""
    links = environment["UV_FIND_LINKS"].split(",")
    if any(list(Path(link).glob("torch-*+cpu-*.whl")) for link in links if link):
        lines += "\nnvidia-cublas<0\ncuda-toolkit<0\ntriton<0\n"
    (scratch / CONSTRAINTS).write_text(lines)


def _pip_find_links() -> list[str]:
    """Where pip looks for wheels beside the index; uv reads neither pip's variables nor its files."""
    if "PIP_FIND_LINKS" in os.environ:
        return os.environ["PIP_FIND_LINKS"].split()
    command = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def _run(environment: Mapping[str, str], *command: str | Path, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    run = subprocess.run(
        words, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if run.returncode:
        raise CommandError(f"$ {shlex.join(words)}\n{run.stdout}")
    return run.stdout


if __name__ == "__main__":
    sys.exit(main())
