"""Run the benchmarks of the packages, one after the other: each prints ratios against torch.nn, by tools/paired.py.

hatch run bench                   all of them
hatch run bench ds-cnn rnn_cell   those of one package, and one by name
hatch run bench --list
"""

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from workspace import ROOT, packages, parse, place


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="packages or benchmarks; default: all")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    options = parser.parse_args(arguments)
    found = {path: package.name for package in packages(root) for path in package.files("benchmarks") if _runs(path)}
    unknown = set(options.names) - set(found.values()) - {path.stem for path in found}
    if unknown:
        known = ", ".join(sorted({path.stem for path in found}))
        parser.error(f"no benchmark or package named {', '.join(sorted(unknown))}; there are {known}")
    failed = 0
    for path, package in found.items():
        if options.names and not {path.stem, package} & set(options.names):
            continue
        print(f"\n{place(root, path)}", flush=True)
        if not options.list:
            tools = str(ROOT / "tools")
            failed += subprocess.run([sys.executable, path], env={**os.environ, "PYTHONPATH": tools}).returncode != 0
    return 1 if failed else 0


def _runs(path: Path) -> bool:
    """Whether it is a program; a file without `if __name__ == "__main__"` only helps others."""
    return any(isinstance(node, ast.If) and "'__main__'" in ast.unparse(node.test) for node in parse(path).body)


if __name__ == "__main__":
    sys.exit(main())
