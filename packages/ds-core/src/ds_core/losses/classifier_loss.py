"""What transformers' classifiers return, and their loss. Theory: docs/classifier_loss.md."""

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from ds_core.arguments import whole_number
from ds_core.engine.module import Module
from ds_core.errors import ShapeError
from ds_core.losses.bce_with_logits import BCEWithLogitsLoss
from ds_core.losses.cross_entropy import CrossEntropyLoss
from ds_core.losses.mse import MSELoss

# N = batch, K = num_labels

PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")


@dataclass
class ClassifierOutput:
    """What a classifier returns; with gradients in its place, what its backward takes.

    Attributes:
        logits: (N, K).
    """

    logits: Tensor | None = None


class ClassifierLoss(Module):
    """transformers' loss of a classifier: cross-entropy, squared error or binary cross-entropy, the mean of it.

    Args:
        num_labels: K.
        problem_type: "regression" (labels (N,) if K is 1, otherwise (N, K)), "single_label_classification" (classes
            (N,), of which -100 are ignored), "multi_label_classification" (labels (N, K) in 0 ... 1), or None: squared
            error if K is 1, otherwise by the labels, whole numbers being classes.

    Raises:
        TypeError, ValueError: an unknown problem type, or a `num_labels` that is no whole number of 1 or more.
        ShapeError: from `forward`, if logits and labels do not fit.
    """

    def __init__(self, num_labels: int, problem_type: str | None = None) -> None:
        if problem_type not in PROBLEM_TYPES:
            known = [name for name in PROBLEM_TYPES if name]
            raise ValueError(f"problem_type is {problem_type!r}, expected one of {known}, or None")
        self.num_labels = whole_number("ClassifierLoss", "num_labels", num_labels)
        self.problem_type = problem_type
        self.losses: dict[str, Any] = {
            "regression": MSELoss(),
            "single_label_classification": CrossEntropyLoss(),
            "multi_label_classification": BCEWithLogitsLoss(),
        }

    def denominator(self, labels: Tensor) -> Tensor | None:
        """What the mean over these labels is divided by, a tensor () of float64."""
        problem = self._problem(labels)
        if problem == "single_label_classification":
            labels = labels.reshape(-1)
        found: Tensor | None = self.losses[problem].denominator(labels)
        return found

    def forward(self, output: Any, labels: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """The output of the classifier, a dataclass with a field `logits`, and its labels -> a scalar.

        `denominator`, where this is a part of a larger batch, is that of the whole.
        """
        logits = output.logits
        if logits is None:
            raise ShapeError("ClassifierLoss: given an output without logits")
        problem = self._problem(labels)
        if problem == "single_label_classification":
            prediction, labels = logits.reshape(-1, self.num_labels), labels.reshape(-1)
        elif problem == "regression" and self.num_labels == 1:
            prediction, labels = logits.reshape(-1), labels.reshape(-1).to(logits.dtype)
        else:
            prediction, labels = logits, labels.to(logits.dtype)
        loss: Tensor = self.losses[problem].forward(prediction, labels, denominator=denominator)
        names = tuple(field.name for field in fields(output))
        self.save(problem, logits.shape, type(output), names)
        return loss

    def backward(self, grad: Tensor | None = None) -> Any:
        """grad of the loss, None for 1 -> the gradients of the output, a dataclass as it was given."""
        problem, shape, kind, names = self.saved()
        dlogits: Tensor = self.losses[problem].backward(grad)
        return kind(**dict.fromkeys(names) | {"logits": dlogits.reshape(shape)})

    def _problem(self, labels: Tensor) -> str:
        if self.problem_type is not None:
            return self.problem_type
        if self.num_labels == 1:
            return "regression"
        return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
