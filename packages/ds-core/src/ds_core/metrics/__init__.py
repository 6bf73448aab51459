"""Numbers that say how well a model does, gathered batch by batch. Theory: docs/metrics.md."""

from ds_core.metrics.accuracy import Accuracy
from ds_core.metrics.confusion_matrix import ConfusionMatrix
from ds_core.metrics.mean import Mean, Perplexity, perplexity
from ds_core.metrics.precision_recall import F1, FBeta, Precision, Recall
from ds_core.metrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score
from ds_core.metrics.roc_auc import ROCAUC

__all__ = [
    "F1",
    "ROCAUC",
    "Accuracy",
    "ConfusionMatrix",
    "FBeta",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Perplexity",
    "Precision",
    "R2Score",
    "Recall",
    "perplexity",
]
