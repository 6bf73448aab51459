"""What an installed package can do with its declared dependencies alone; run by isolate.py with the fresh Python.

    python -I bare.py MODULE PREFIX ABSENT...

Imports every module, runs the examples of the README in the wheel, and has `ds` check every recipe. The last line is
JSON: every installed distribution with its megabytes and what it requires. Only the standard library may be imported.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Sequence

PYTHON = [sys.executable, "-I"]


def main(arguments: Sequence[str]) -> int:
    module, prefix, *absent = arguments
    import_all(module, prefix)
    found = [other for other in absent if importlib.util.find_spec(other)]
    assert not found, f"{found} are there, though {module} does not declare them"
    checks = sum(run_example(code) for code in examples(module)) + check_recipes(module)
    assert checks or not importlib.util.find_spec("ds_core"), f"no example of {module}'s README calls check_layer"
    print(json.dumps({name: installed(name) for name in names()}))
    return 0


def import_all(module: str, prefix: str) -> None:
    package = importlib.import_module(module)
    assert str(package.__file__).startswith(prefix), f"{module} comes from {package.__file__}"
    for found in pkgutil.walk_packages(package.__path__, f"{module}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def examples(module: str) -> list[str]:
    """The Python examples of its README, which the wheel carries as its description."""
    text = importlib.metadata.metadata(module).json.get("description", "")
    return re.findall(r"^```python\n(.*?)^```$", str(text), re.MULTILINE | re.DOTALL)


def run_example(code: str) -> bool:
    """Whether it checks a layer."""
    subprocess.run([*PYTHON, "-c", code], check=True)
    return "check_layer(" in code


def check_recipes(module: str) -> int:
    """Check every recipe that the package brings, with `ds check` -> how many there are."""
    recipes = [
        entry.name for entry in importlib.metadata.distribution(module).entry_points if entry.group == "ds.recipes"
    ]
    for recipe in recipes:
        for words in (["check", recipe], ["train", recipe, "--help"]):
            subprocess.run([*PYTHON, "-m", "ds_core.cli", *words], check=True)
    return len(recipes)


def names() -> list[str]:
    return sorted({str(each.metadata["Name"]) for each in importlib.metadata.distributions()})


def installed(name: str) -> tuple[float, list[str]]:
    """Megabytes of its files, and its requirements."""
    distribution = importlib.metadata.distribution(name)
    paths = [str(distribution.locate_file(file)) for file in distribution.files or []]
    return sum(os.path.getsize(path) for path in paths if os.path.exists(path)) / 1e6, distribution.requires or []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
