"""What transformers' image classifiers return, and their loss. Theory: docs/image_classification.md."""

from dataclasses import dataclass
from typing import Any

from ds_core import BCEWithLogitsLoss, CrossEntropyLoss, Module, MSELoss, ShapeError
from ds_core.layers.arguments import whole_number
from torch import Tensor

# N = batch, K = num_labels

PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")


@dataclass
class ImageClassifierOutput:
    """What a classifier returns; with gradients in its place, what its backward takes.

    Attributes:
        logits: (N, K).
    """

    logits: Tensor | None = None


class ImageClassificationLoss(Module):
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
        self.num_labels = whole_number("ImageClassificationLoss", "num_labels", num_labels)
        self.problem_type = problem_type
        self.losses: dict[str, Any] = {
            "regression": MSELoss(),
            "single_label_classification": CrossEntropyLoss(),
            "multi_label_classification": BCEWithLogitsLoss(),
        }

    def forward(self, output: ImageClassifierOutput, labels: Tensor) -> Tensor:
        """The output of the classifier and its labels -> a scalar."""
        logits = output.logits
        if logits is None:
            raise ShapeError("ImageClassificationLoss: given an output without logits")
        problem = self._problem(labels)
        if problem == "single_label_classification":
            prediction, labels = logits.reshape(-1, self.num_labels), labels.reshape(-1)
        elif problem == "regression" and self.num_labels == 1:
            prediction, labels = logits.reshape(-1), labels.reshape(-1).to(logits.dtype)
        else:
            prediction, labels = logits, labels.to(logits.dtype)
        loss: Tensor = self.losses[problem].forward(prediction, labels)
        self.save(problem, logits.shape)
        return loss

    def backward(self, grad: Tensor | None = None) -> ImageClassifierOutput:
        """grad of the loss, None for 1 -> the gradients of the output."""
        problem, shape = self.saved()
        dlogits: Tensor = self.losses[problem].backward(grad)
        return ImageClassifierOutput(logits=dlogits.reshape(shape))

    def _problem(self, labels: Tensor) -> str:
        if self.problem_type is not None:
            return self.problem_type
        if self.num_labels == 1:
            return "regression"
        return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
