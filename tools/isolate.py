"""Each package alone: its wheel in a fresh environment with what it declares and nothing else, its tests run there.

    hatch run isolate                 all packages
    hatch run isolate ds-cnn          one of them
    hatch run isolate --torch 2.6.0   with another torch than the development environment's

First bare: the wheel brings only what `LIGHT` names, every module imports, the README's examples run and `ds` checks
every recipe (tools/bare.py). Then with the extra `test`: its tests. They are copied out of the checkout, so they can
read nothing of it. Siblings come from wheels built here; one that is not declared must be absent. uv's cache
hard-links the files of torch, so many environments cost one copy.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from wheels import UV, CommandError, build, run
from workspace import ROOT, Package, packages

# All that a package may bring without an extra, beside its siblings and what these require themselves.
LIGHT = {"torch", "numpy", "einops", "safetensors", "tqdm"}
BARE = Path(__file__).with_name("bare.py")
Installed = dict[str, tuple[float, list[str]]]  # name -> megabytes, requirements

# One package's tests use all cores; meanwhile the next one is installed and looked at bare.
_testing = Lock()


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    members = packages(root)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="default: all")
    parser.add_argument("--torch", metavar="VERSION", help="default: the version in tools/constraints.txt")
    options = parser.parse_args(arguments)
    unknown = set(options.packages) - {package.name for package in members}
    if unknown:
        parser.error(f"no such package: {', '.join(sorted(unknown))}")
    chosen = [package for package in members if package.name in options.packages or not options.packages]
    chosen.sort(key=_length_of_tests, reverse=True)

    with tempfile.TemporaryDirectory(prefix="isolate-") as folder, ThreadPoolExecutor(2) as pool:
        scratch = Path(folder)
        environment = _environment(scratch)
        _write_constraints(root, scratch, environment, options.torch)
        if not all(list(pool.map(lambda package: _builds(package, scratch / "dist", environment), members))):
            return 1
        results = list(pool.map(lambda package: _isolate(package, members, scratch, environment), chosen))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


def needed_siblings(package: Package, members: Sequence[Package], extra: str | None = "test") -> set[str]:
    """Names of the packages of this workspace that `package` declares, or a declared one declares."""
    by_name = {member.name: member for member in members}
    needed: set[str] = set()
    waiting = [*package.requirements(), *(package.requirements(extra) if extra else [])]
    while waiting:
        name = waiting.pop().name
        if name in by_name and name not in needed and name != package.name:
            needed.add(name)
            waiting.extend(by_name[name].requirements())
    return needed


def surplus(installed: Installed, own: Iterable[str]) -> set[NormalizedName]:
    """What is installed and is neither one of `own`, nor in LIGHT, nor required by what is in LIGHT."""
    required = {canonicalize_name(name): texts for name, (_, texts) in installed.items()}
    allowed = {canonicalize_name(name) for name in own}
    waiting = [canonicalize_name(name) for name in LIGHT]
    while waiting:
        name = waiting.pop()
        if name not in allowed:
            allowed.add(name)
            for requirement in map(Requirement, required.get(name, [])):
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    waiting.append(canonicalize_name(requirement.name))
    return set(required) - allowed


def _builds(package: Package, folder: Path, environment: Mapping[str, str]) -> bool:
    try:
        build(package, folder, environment)
    except CommandError as error:
        print(f"{package.name}: does not build\n{error}", flush=True)
        return False
    return True


def _length_of_tests(package: Package) -> int:
    """Bytes, by which the longest run starts first."""
    return sum(path.stat().st_size for path in package.files("tests"))


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
    (home / "empty").mkdir(parents=True)
    siblings = home / "siblings.txt"
    siblings.write_text("".join(f"{name} @ {path.as_uri()}\n" for name, path in wheels.items()))
    install: list[str | Path] = [UV, "pip", "install", "--python", python]
    install += ["--constraint", siblings, "--constraint", scratch / "constraints.txt"]
    try:
        run(environment, UV, "venv", "--python", sys.executable, home / "venv")
        run(environment, *install, wheel)
        run(environment, UV, "pip", "check", "--python", python)
        absent = sorted(set(wheels) - needed_siblings(package, members))
        modules = [name.replace("-", "_") for name in absent]
        prefix = (home / "venv").resolve()
        said = run(environment, python, "-I", BARE, package.module, prefix, *modules, cwd=home / "empty")
        print(f"{package.name}: bare: {_weighed(json.loads(said.splitlines()[-1]), package, members)}", flush=True)
        # The last is no dependency of the tests: it runs them on all cores.
        run(environment, *install, f"{package.name}[test] @ {wheel.as_uri()}", "pytest-xdist")
        for folder in ("tests", "docs"):  # some tests run the examples of pages
            if (package.folder / folder).exists():
                shutil.copytree(package.folder / folder, home / folder, ignore=shutil.ignore_patterns("__pycache__"))
        options = ["-q", "-n", "auto", "--dist", "worksteal", "--import-mode=importlib", f"--rootdir={home}"]
        with _testing:
            printed = run(environment, python, "-m", "pytest", *options, "tests", cwd=home)
    finally:
        shutil.rmtree(home / "venv", ignore_errors=True)
    return printed.strip().splitlines()[-1]


def _weighed(installed: Installed, package: Package, members: Sequence[Package]) -> str:
    """How many packages and megabytes the bare wheel brings, and which. Raises `CommandError`."""
    more = surplus(installed, {package.name, *needed_siblings(package, members, extra=None)})
    if more:
        raise CommandError(
            f"installed without an extra it brings {', '.join(sorted(more))}: "
            f"beside siblings only {', '.join(sorted(LIGHT))} may come, all else is for an extra"
        )
    largest = sorted(installed.items(), key=lambda item: -item[1][0])
    total = sum(size for size, _ in installed.values())
    listed = ", ".join(f"{name} {size:.1f}" for name, (size, _) in largest)
    return f"{len(installed)} packages, {total:.0f} MB ({listed})"


def _environment(scratch: Path) -> dict[str, str]:
    """The variables under which uv finds what pip finds, and the tests find nothing of the checkout."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment.setdefault("UV_CACHE_DIR", str(scratch / "cache"))
    environment.setdefault("OMP_NUM_THREADS", "1")
    links = [*environment.get("UV_FIND_LINKS", "").split(","), *_pip_find_links()]
    environment["UV_FIND_LINKS"] = ",".join(filter(None, dict.fromkeys(links)))
    return environment


def _write_constraints(root: Path, scratch: Path, environment: Mapping[str, str], torch: str | None = None) -> None:
    """The development versions; and if torch's CPU build is at hand, no gigabytes of CUDA: fail rather than fetch.

    Of a torch that is asked for by its version, any build will do.

    It goes on the command line. An option there makes uv forget the variable UV_CONSTRAINT.
    """
    path = root / "tools/constraints.txt"
    lines = path.read_text() if path.exists() else ""
    links = environment["UV_FIND_LINKS"].split(",")
    if torch is not None:
        lines = re.sub(r"^torch==.*$", f"torch=={torch}", lines, flags=re.MULTILINE)
    elif any(list(Path(link).glob("torch-*+cpu-*.whl")) for link in links if link):
        lines += "\nnvidia-cublas<0\ncuda-toolkit<0\ntriton<0\n"
    (scratch / "constraints.txt").write_text(lines)


def _pip_find_links() -> list[str]:
    """Where pip looks for wheels beside the index; uv reads neither pip's variables nor its files."""
    if "PIP_FIND_LINKS" in os.environ:
        return os.environ["PIP_FIND_LINKS"].split()
    command = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


if __name__ == "__main__":
    sys.exit(main())
