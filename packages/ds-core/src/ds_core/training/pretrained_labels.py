"""What config.json says of the classes of a published classifier. Theory: docs/classifier_loss.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ds_core.arguments import whole_number
from ds_core.losses.classifier_loss import PROBLEM_TYPES


@dataclass(frozen=True)
class Labels:
    """The classes of a classifier.

    Attributes:
        names: of the classes, in order.
        problem_type: which loss is taken: see `ClassifierLoss`.
    """

    names: tuple[str, ...] = ("LABEL_0", "LABEL_1")
    problem_type: str | None = None

    @classmethod
    def numbered(cls, count: int, problem_type: str | None = None) -> "Labels":
        """The names that transformers gives to classes without names.

        Raises:
            TypeError, ValueError: `count` is no whole number of at least 1.
        """
        names = (f"LABEL_{number}" for number in range(whole_number("Labels.numbered", "count", count)))
        return cls(tuple(names), problem_type)

    @classmethod
    def from_config(cls, given: Mapping[str, Any]) -> "Labels":
        """Read the fields of config.json; without `id2label` and `num_labels` there are two classes.

        Raises:
            ValueError: a field is not as transformers writes it.
        """
        problem_type = given.get("problem_type")
        if problem_type not in PROBLEM_TYPES:
            known = [name for name in PROBLEM_TYPES if name]
            raise ValueError(f"problem_type is {problem_type!r}, expected one of {known}, or null")
        names = given.get("id2label")
        if names is None:
            count = given.get("num_labels", 2)
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(f"num_labels is {count!r}, expected a positive whole number")
            return cls.numbered(count, problem_type)
        if not isinstance(names, dict) or not names or {str(number) for number in range(len(names))} != set(names):
            raise ValueError(f"id2label is {names!r:.80}, expected a name for each of the classes 0, 1, ...")
        return cls(tuple(str(names[str(number)]) for number in range(len(names))), problem_type)

    def fields(self) -> dict[str, Any]:
        """The fields of config.json that `from_config` reads."""
        return {
            "id2label": {str(number): name for number, name in enumerate(self.names)},
            "label2id": {name: number for number, name in enumerate(self.names)},
            "problem_type": self.problem_type,
        }
