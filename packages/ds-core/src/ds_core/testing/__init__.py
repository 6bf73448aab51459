"""The oracle: what proves a handwritten layer, loss or optimizer right. Theory: docs/testing.md."""

from ds_core.testing.failure import CheckFailed
from ds_core.testing.layer import check_layer
from ds_core.testing.layer_checks import CHECKS
from ds_core.testing.loss import check_loss
from ds_core.testing.optimizer import check_optimizer
from ds_core.testing.plain import check_plain
from ds_core.testing.report import Report, report
from ds_core.testing.twin import check_signature, check_twin, check_twin_grid

__all__ = [
    "CHECKS",
    "CheckFailed",
    "Report",
    "check_layer",
    "check_loss",
    "check_optimizer",
    "check_plain",
    "check_signature",
    "check_twin",
    "check_twin_grid",
    "report",
]
