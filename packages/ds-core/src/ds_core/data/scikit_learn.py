"""The small data sets that scikit-learn brings along; nothing is downloaded."""

from typing import Any, Literal

import torch

from ds_core.data.raw_dataset import Source
from ds_core.errors import needs_extra

# scikit-learn is imported where it is needed: it takes a second

_LOADERS = {
    "breast_cancer": "load_breast_cancer",
    "diabetes": "load_diabetes",
    "digits": "load_digits",
    "iris": "load_iris",
    "wine": "load_wine",
}
NAMES = tuple(_LOADERS)


def from_scikit_learn(name: str) -> Source:
    """One of `NAMES`: digits as images (N, 1, 8, 8) uint8 of 0 to 16, the others as tables (N, F) float64.

    The features of diabetes are as measured: scikit-learn's default scales them by all rows, test rows as well.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    with needs_extra("data", f"the data set {name}"):
        from sklearn import datasets  # type: ignore[import-untyped]

    options = {"scaled": False} if name == "diabetes" else {}
    found: Any = getattr(datasets, _LOADERS[name])(**options)
    inputs, target = torch.from_numpy(found.data), torch.from_numpy(found.target)
    if name == "digits":
        return Source(
            rows=(inputs.to(torch.uint8).view(-1, 1, 8, 8), target),
            test=None,
            task="classification",
            feature_names=(),
            class_names=tuple(map(str, found.target_names)),
            description=found.DESCR,
            largest=16,
        )
    task: Literal["classification", "regression"] = "regression" if name == "diabetes" else "classification"
    return Source(
        rows=(inputs, target),
        test=None,
        task=task,
        feature_names=tuple(map(str, found.feature_names)),
        class_names=tuple(map(str, found.target_names)) if task == "classification" else None,
        description=found.DESCR,
    )
