"""The oracle: what proves a handwritten layer, loss or optimizer right. Theory: docs/testing.md."""

from typing import TYPE_CHECKING, Any

from ds_core.testing.failure import CheckFailed
from ds_core.testing.grids import full_grids, pairwise
from ds_core.testing.layer import check_layer
from ds_core.testing.layer_checks import CHECKS
from ds_core.testing.loss import check_loss
from ds_core.testing.one_graph import one_graph
from ds_core.testing.optimizer import check_optimizer, check_plain_optimizer
from ds_core.testing.plain import check_plain
from ds_core.testing.report import Report, report
from ds_core.testing.signature import check_signature, check_signatures
from ds_core.testing.twin import check_twin, check_twin_grid

if TYPE_CHECKING:
    from ds_core.testing.recipe import RECIPE_PARTS, check_recipe

__all__ = [
    "CHECKS",
    "RECIPE_PARTS",
    "CheckFailed",
    "Report",
    "check_layer",
    "check_loss",
    "check_optimizer",
    "check_plain",
    "check_plain_optimizer",
    "check_recipe",
    "check_signature",
    "check_signatures",
    "check_twin",
    "check_twin_grid",
    "full_grids",
    "one_graph",
    "pairwise",
    "report",
]


def __getattr__(name: str) -> Any:
    """The check of recipes runs the command `ds`, which stands above this folder: it is imported when it is used."""
    if name in ("RECIPE_PARTS", "check_recipe"):
        import ds_core.testing.recipe

        return getattr(ds_core.testing.recipe, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
