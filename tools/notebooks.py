"""Notebooks: the percent-format .py is the source, the .ipynb beside it is that source executed.

hatch run notebooks                       execute all and write every .ipynb
hatch run notebooks --check               fast: run the sources as scripts, compare the .ipynb with its source
hatch run notebooks avg_pool2d            one of them

With --check the sources see DS_FAST=1, by which those that train shorten it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from workspace import ROOT, location, packages

SECONDS_A_CELL = 600


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks, without .py; default: all")
    parser.add_argument("--check", action="store_true", help="write nothing; say what fails or is out of date")
    options = parser.parse_args(arguments)
    sources = [path for package in packages(root) for path in package.files("notebooks")]
    unknown = set(options.names) - {path.stem for path in sources}
    if unknown:
        known = ", ".join(path.stem for path in sources)
        parser.error(f"no notebook named {', '.join(sorted(unknown))}; there are {known}")
    faults = 0
    chosen = [source for source in sources if not options.names or source.stem in options.names]
    found: Iterator[Iterable[str]] = map(execute, chosen)
    if options.check:
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # each in a process of its own
            found = pool.map(lambda source: list(check(source)), chosen)
    for source, of_it in zip(chosen, found, strict=True):
        for fault in of_it:
            print(f"{location(root, source)}: {fault}", flush=True)
            faults += 1
    print(f"notebooks: {f'{faults} fault(s)' if faults else 'ok'}")
    return 1 if faults else 0


def execute(source: Path) -> Iterator[str]:
    """Run the notebook from top to bottom and write the .ipynb; the same source gives the same cells and ids."""
    notebook = _read(source)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(source.parent)}},
    )
    try:
        # Without MPLBACKEND the kernel puts the figures into the notebook.
        client.execute(env={name: value for name, value in os.environ.items() if name != "MPLBACKEND"})
    except CellExecutionError as error:
        yield f"failed\n{error}"
        return
    notebook.metadata.pop("language_info", None)  # names the Python version of whoever ran it
    source.with_suffix(".ipynb").write_text(jupytext.writes(notebook, fmt="ipynb"), encoding="utf-8")


def check(source: Path) -> Iterator[str]:
    """What is wrong with a notebook: its source fails, or the .ipynb is missing, stale, not executed or failed."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", **os.environ, "DS_FAST": "1"}
        run = subprocess.run(
            [sys.executable, source.resolve()], cwd=scratch, env=environment, capture_output=True, text=True
        )
    if run.returncode:
        yield f"failed as a script, with status {run.returncode}\n{run.stderr}"
    executed = source.with_suffix(".ipynb")
    if not executed.exists():
        yield f"{executed.name} is missing: hatch run notebooks {source.stem}"
        return
    notebook: NotebookNode = jupytext.read(executed)
    if _cells(notebook) != _cells(_read(source)):
        yield f"{executed.name} has other cells than its source: hatch run notebooks {source.stem}"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if any(cell.execution_count is None for cell in code):
        yield f"{executed.name} was not executed: hatch run notebooks {source.stem}"
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        yield f"{executed.name} holds an error"


def take_over(source: Path) -> None:
    """Write the source's cells into the .ipynb, if there is one, and leave its outputs: no result has changed."""
    executed = source.with_suffix(".ipynb")
    if not executed.exists():
        return
    notebook: NotebookNode = jupytext.read(executed)
    for cell, changed in zip(notebook.cells, _read(source).cells, strict=True):
        cell.source = changed.source
    executed.write_text(jupytext.writes(notebook, fmt="ipynb"), encoding="utf-8")


def _read(source: Path) -> NotebookNode:
    notebook: NotebookNode = jupytext.read(source, fmt="py:percent")
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
    return notebook


def _cells(notebook: NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


if __name__ == "__main__":
    sys.exit(main())
