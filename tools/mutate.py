"""Break every formula of a package on purpose, one by one, and name the mistakes that its tests do not see.

    hatch run mutate linear gelu        the files packages/*/src/*/linear.py and gelu.py
    hatch run mutate ds-transformers    all that has a theory page there

The tests of a file are those of its package that bear its name, that hold its plain pairs together (test_plain.py) or
that import from it. Each mutant (tools/mutants.py) runs against them in a process of its own until the first one fails.
If what survives is no mistake, EQUIVALENT says why; the exit status is 1 if anything else survives. Needs `os.fork`, so
Linux or macOS.
"""

import argparse
import ast
import importlib.abc
import importlib.machinery
import os
import re
import signal
import sys
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import public_names
from mutants import Mutant, mutants
from workspace import ROOT, Package, location, packages, parse

FAST_FORM = re.compile(r"^@fast_form\(.*\)\n(?:@.*\n)*def (\w+)", re.MULTILINE)

# By file and line: why what survives there is no mistake.
EQUIVALENT = {
    ("clipping.py", "alone = tensor.numel() > 2**12 or torch.compiler.is_compiling()"): (
        "what is joined is speed alone"
    ),
    ("sgd.py", 'dampening = 0.0 if first else group["dampening"]  # the first buffer is the gradient itself'): (
        "minus zero is zero"
    ),
    ("nll.py", "classes = target.to(torch.int64).masked_fill(ignored, 0)"): ("an ignored target may be any class"),
    ("gradient_penalty.py", "norms = torch.where(squares > 0, squares, 1.0).sqrt() * (squares > 0)"): (
        "any number above 0 serves: what comes of it is multiplied by 0"
    ),
    ("gradient_penalty.py", "divisors = torch.where(kept.norms > 0, kept.norms, 1.0)"): (
        "any number above 0 serves: where it is used, the gradient that it divides is 0"
    ),
    ("nll.py", "return 1"): ("only the mean divides"),
    ("kl_div.py", "log = target if log_target else torch.log(t.masked_fill(nothing, 1))"): (
        "masked again in the line below"
    ),
    (
        "pointwise.py",
        "return (first.new_empty(0) + second.new_empty(0)).dtype  # torch.promote_types is no primitive operation",
    ): ("only the dtype is used"),
    ("cosine_lr.py", "rise = annealed(1, 0, 1 - 1 / self.T_max)"): ("the cosine is even about 1"),
    (
        "orthogonal.py",
        "q = q * r.diagonal().sign()  # Q sign(diag R)                                                    (13)",
    ): ("to divide by 1 or -1 is to multiply by it"),
    ("variance_scaling.py", "return 0.0 if tensor.numel() == 0 else gain * math.sqrt(2.0 / (fan_in + fan_out))"): (
        "nothing is drawn into an empty tensor"
    ),
    (
        "variance_scaling.py",
        "return 0.0 if tensor.numel() == 0 else gain / math.sqrt(fan)  # sigma = g / sqrt(fan)                (8)",
    ): ("nothing is drawn into an empty tensor"),
    ("sigmoid.py", "limit = math.log2(torch.finfo(t.dtype).max) - 1"): (
        "where it clamps, autograd gives 0 instead of NaN, so any limit up there serves"
    ),
    ("tanh.py", "t = torch.clamp_max(x, 20)  # beyond it y is 1 in any dtype, up to it t is finite in all"): (
        "any limit from 20 to 44 serves"
    ),
    ("mish.py", "return torch.clamp(x, -1000, 22)"): ("any limit near it serves"),
    ("additive_scores.py", "dweight = torch.zeros_like(weight)"): ("minus zero is zero"),
    ("softplus.py", "return threshold > -math.log(torch.finfo(z.dtype).eps / 4)"): (
        "a margin: up to eps / 2 serves, and so does less"
    ),
    ("sync_batch_norm.py", "dy = torch.zeros_like(x)  # for the others wait for this process's sums"): (
        "minus zero is zero"
    ),
    ("embedding.py", "dweight = torch.zeros(weight.shape, dtype=wide_dtype(weight), device=weight.device)"): (
        "minus zero is zero"
    ),
    ("embedding.py", "layer = cls(0, embeddings.shape[1], None, max_norm, norm_type, scale_grad_by_freq)"): (
        "its table and their number are set in the lines below"
    ),
    ("windows.py", "dx = torch.zeros(*dy.shape[:-1], size, dtype=dy.dtype, device=dy.device)"): "minus zero is zero",
    ("windows.py", "dx = zeros_along(dy, dim, size, wide_dtype(dy))"): "minus zero is zero",
    (
        "cross_entropy.py",
        "options = (target.to(torch.int64).masked_fill(ignored, 0), ignored, self.weight, self.label_smoothing)",
    ): ("an ignored target may be any class"),
    ("cross_entropy.py", "count: Tensor | int = 1"): ("only the mean divides"),
    (
        "perceptron.py",
        "return torch.mul(wrong.mul_(target), -dlosses, out=out)  # dx = -dL t [t x <= 0]                         (2)",
    ): ("1 / t = t if t is 1 or -1"),
}


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves one module from other source text than its file holds."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        self.module, self.path, self.source = module, path, source

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == self.module else None

    def exec_module(self, module: types.ModuleType) -> None:
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help="source files without .py, or packages")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants tried at a time")
    options = parser.parse_args(arguments)
    found = [(package, path) for package, path in _sources(root) if {path.stem, package.name} & set(options.names)]
    unknown = set(options.names) - {name for package, path in found for name in (path.stem, package.name)}
    if unknown:
        parser.error(f"no source file with a theory page, and no package, is called {', '.join(sorted(unknown))}")
    survivors = sum([_try(root, package, path, options.jobs) for package, path in found])
    print(f"mutants: {survivors} survived" if survivors else "mutants: all caught")
    return 1 if survivors else 0


def _sources(root: Path) -> Iterator[tuple[Package, Path]]:
    for package in packages(root):
        for path in package.files("src"):
            pages = package.folder / "docs"
            if any((folder / f"{path.stem}.md").exists() for folder in (pages, pages / path.parent.name)):
                yield package, path


def _tests_of(package: Package, path: Path) -> Iterator[str]:
    """The test files that bear its name, the tests of its plain pairs, the test files that import a name of it."""
    exported = public_names.exports(package.folder.parents[1])
    named, others = [], []
    for test in package.files("tests"):
        if test.name.startswith(f"test_{path.stem}") and test.parent.name in ("tests", path.parent.name):
            named.append(str(test))
        elif test.name.startswith("test_") and _module(package, path) in _imported(test, exported):
            others.append(str(test))
    plain = package.folder / "tests/test_plain.py"
    pairs = FAST_FORM.findall(path.read_text("utf-8")) if plain.exists() else []
    yield from [*named, *(f"{plain}::test_plain_and_fast_agree[{name}]" for name in pairs), *others]


def _imported(test: Path, exported: public_names.Exports) -> set[str]:
    """The modules that its imported names come from."""
    nodes = [node for node in ast.walk(parse(test)) if isinstance(node, ast.ImportFrom) and node.module]
    return {public_names.origin(exported, node.module or "", alias.name)[0] for node in nodes for alias in node.names}


def _module(package: Package, path: Path) -> str:
    return ".".join(path.relative_to(package.folder / "src").with_suffix("").parts)


def _try(root: Path, package: Package, path: Path, jobs: int) -> int:
    """Try every mutant of one file; prints what survives, and returns how many."""
    tests = list(_tests_of(package, path))
    source = path.read_text("utf-8")
    found = list(mutants(source)) if tests else []
    if not found:
        return 0
    began = time.monotonic()
    if not _passes(_start(package, path, source, tests), began + 600):
        print(f"{location(root, path)}: its tests fail as it is", flush=True)
        return 1
    limit = 30 + 5 * (time.monotonic() - began)
    left, running, survivors = list(reversed(found)), dict[int, tuple[Mutant, float]](), 0
    while left or running:
        while left and len(running) < jobs:
            mutant = left.pop()
            running[_start(package, path, mutant.source, tests)] = (mutant, time.monotonic() + limit)
        process, (mutant, end) = next(iter(running.items()))
        del running[process]
        text = source.splitlines()[mutant.line - 1].strip()
        if _passes(process, end) and (path.name, text) not in EQUIVALENT:
            survivors += 1
            print(f"{location(root, path, mutant.line)}: {mutant.before}  ->  {mutant.after}", flush=True)
    print(f"{location(root, path)}: {len(found)} mutants, {survivors} survived", flush=True)
    return survivors


def _start(package: Package, path: Path, source: str, tests: Sequence[str]) -> int:
    """A process that runs the tests on this source; its exit status is pytest's."""
    # Imported once, before the fork, for they take longer than most tests; the package itself never here.
    import hypothesis  # noqa: F401
    import pytest
    import torch

    torch.set_num_threads(1)
    process = os.fork()
    if process:
        return process
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # which would take half of a short test's time
        sys.path.insert(0, str(package.folder / "src"))
        sys.meta_path.insert(0, Planted(_module(package, path), path, source))
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "--import-mode=importlib"]
        status = int(pytest.main([*options, *tests]))
    except BaseException:
        status = 1
    os._exit(status)


def _passes(process: int, end: float) -> bool:
    """Wait for the process; whether its tests passed. One that takes too long has found an endless loop."""
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return False
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
