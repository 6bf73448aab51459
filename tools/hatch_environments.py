"""An environment for each folder of packages/, read by hatch: `hatch run ds-cnn:test` runs the tests of ds-cnn."""

from pathlib import Path
from typing import Any

from hatch.env.collectors.plugin.interface import EnvironmentCollectorInterface


class PackageEnvironments(EnvironmentCollectorInterface):  # type: ignore[misc]
    """They inherit all from the default environment, its folder included, so nothing is installed twice."""

    def get_initial_config(self) -> dict[str, dict[str, Any]]:
        """Name of the environment -> its table, as in pyproject.toml."""
        names = sorted(path.parent.name for path in Path(self.root).glob("packages/*/pyproject.toml"))
        return {name: {"scripts": {"test": f"pytest {{args:packages/{name}}}"}} for name in names}
