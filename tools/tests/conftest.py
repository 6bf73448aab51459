"""A small workspace to plant faults in."""

from collections.abc import Callable
from pathlib import Path

import pytest

Plant = Callable[..., Path]

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = [{dependencies}]

[project.optional-dependencies]
{extras}

[tool.hatch.build.targets.wheel]
{wheel}
"""


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """`plant({"ds-core/src/ds_core/a.py": "import os"})` writes these files under packages/, and what is missing.

    `wheel` says in hatch's words what goes into the wheel; by default its module does.
    """

    def write(files: dict[str, str], dependencies: str = "", extras: str = "", wheel: str = "") -> Path:
        for name, text in files.items():
            path = tmp_path / "packages" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        for folder in {tmp_path / "packages" / name.split("/")[0] for name in files}:
            module = folder.name.replace("-", "_")
            defaults = {
                "pyproject.toml": PYPROJECT.format(
                    name=folder.name,
                    dependencies=dependencies,
                    extras=extras,
                    wheel=wheel or f'packages = ["src/{module}"]',
                ),
                "CHANGELOG.md": "# Changelog\n\n## [0.1.0] - 2026-01-31\n",
                "README.md": f"# {folder.name}\n",
                "LICENSE": "MIT\n",
                f"src/{module}/py.typed": "",
                f"src/{module}/__init__.py": "",
                f"src/{module}/__about__.py": '__version__ = "0.1.0"\n',
            }
            for name, text in defaults.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    path.write_text(text, "utf-8")
        return tmp_path

    return write
