"""Run the benchmarks of the packages, one after the other: each prints ratios against torch.nn, by tools/paired.py.

hatch run bench                   all of them
hatch run bench ds-cnn rnn_cell   those of one package, and one by name
hatch run bench gpt -- --compile  one with options of its own; -- --help lists them
hatch run bench --list
"""

import argparse
import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from workspace import ROOT, location, packages, parse


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        usage="%(prog)s [-h] [--list] [NAME ...] [-- OPTION ...]",
        description=(__doc__ or "").splitlines()[0],
        epilog="What stands after -- goes to the benchmark: gpt -- --compile; gpt -- --help lists what it takes.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="packages or benchmarks; default: all")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    words = list(sys.argv[1:] if arguments is None else arguments)
    # hatch takes the -- out, so the first option that is not ours ends our words too
    end = next((index for index, word in enumerate(words) if word.startswith("-") and word != "--list"), 0)
    options = parser.parse_args(words[:end] or words)
    passed_on = words[end:] if end else []
    if passed_on[:1] == ["--"]:
        del passed_on[0]
    found = {path: package.name for package in packages(root) for path in package.files("benchmarks") if _runs(path)}
    unknown = set(options.names) - set(found.values()) - {path.stem for path in found}
    if unknown:
        known = ", ".join(sorted({path.stem for path in found}))
        parser.error(f"no benchmark or package named {', '.join(sorted(unknown))}; there are {known}")
    named = set(options.names)
    chosen = [path for path, package in found.items() if not named or {path.stem, package} & named]
    if passed_on and len(chosen) != 1:
        stems = ", ".join(path.stem for path in chosen)
        parser.error(f"given {' '.join(passed_on)} for {len(chosen)} benchmarks ({stems}): name one")
    failed = 0
    for path in chosen:
        print(f"\n{location(root, path)}", flush=True)
        if not options.list:
            failed += subprocess.run([sys.executable, path, *passed_on]).returncode != 0
    return 1 if failed else 0


def _runs(path: Path) -> bool:
    """Whether it is a program; a file without `if __name__ == "__main__"` only helps others."""
    return any(isinstance(node, ast.If) and "'__main__'" in ast.unparse(node.test) for node in parse(path).body)


if __name__ == "__main__":
    sys.exit(main())
