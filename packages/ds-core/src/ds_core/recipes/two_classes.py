"""Rows of two classes for a single perceptron: truth tables, and one species of iris against the others."""

from dataclasses import dataclass, replace

import torch

from ds_core.data.datasets import load
from ds_core.data.tensor_dataset import TensorDataset

# What each gate answers to (0, 0), (0, 1), (1, 0), (1, 1)
GATES = {"and": (0, 0, 0, 1), "or": (0, 1, 1, 1), "xor": (0, 1, 1, 0)}
SPECIES = ("setosa", "versicolor", "virginica")
FEATURES = {"petal": (2, 3), "sepal": (0, 1), "all": (0, 1, 2, 3)}


@dataclass(frozen=True)
class TwoClasses:
    """Rows to tell apart, targets (N, 1) of 1 and -1.

    Attributes:
        aim: what is to be learned, in words.
        test: None for a truth table, which is all training.
        features, classes: the names of the columns and of the two classes, -1 first.
    """

    aim: str
    train: TensorDataset
    test: TensorDataset | None
    features: tuple[str, ...]
    classes: tuple[str, str]

    def to(self, device: torch.device) -> "TwoClasses":
        """The same rows on another device."""

        def moved(part: TensorDataset) -> TensorDataset:
            return TensorDataset(*(tensor.to(device) for tensor in part.tensors))

        return replace(self, train=moved(self.train), test=None if self.test is None else moved(self.test))


def gate(name: str) -> TwoClasses:
    """The truth table of a gate."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    target = 2 * torch.tensor(GATES[name], dtype=x.dtype).unsqueeze(1) - 1
    return TwoClasses(f"the gate {name}", TensorDataset(x, target), None, ("first input", "second input"), ("0", "1"))


def iris(species: str, features: str, test: float, seed: int) -> TwoClasses:
    """One species against the two others."""
    data = load("iris", validation=0.0, test=test, seed=seed)
    columns = torch.tensor(FEATURES[features])
    own = SPECIES.index(species)

    def chosen(part: TensorDataset) -> TensorDataset:
        x, classes = part.tensors
        return TensorDataset(x.index_select(1, columns), 2 * (classes == own).to(x.dtype).unsqueeze(1) - 1)

    names = tuple(data.feature_names[int(column)] for column in columns)
    aim = f"to tell {species} from the others by {' and '.join(names)}"
    return TwoClasses(aim, chosen(data.train), chosen(data.test), names, ("others", species))
