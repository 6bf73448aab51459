"""The mean of the weights at several steps of one run, often better than each. Theory: docs/averaging.md."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ds_core.errors import CheckpointError
from ds_core.training.callbacks import Callback
from ds_core.training.checkpoint import read_weights

# W = the numbers of one set of weights


def average_weights(paths: Iterable[str | Path]) -> dict[str, Tensor]:
    """The mean of the weights in several files: checkpoints of a Trainer, or other safetensors files.

    Summed in float64 and rounded once, to the dtype of the files. What is not floating, a counter or a mask, is
    taken from the last file. Two files at most are in memory, and the sum.

    Args:
        paths: the oldest first.

    Returns:
        As `model.load_state_dict` takes it, on the CPU.

    Raises:
        ValueError: there is no path.
        TypeError: one path instead of several.
        CheckpointError: a file is missing or damaged, or its names, shapes or dtypes are not those of the first.
    """
    if isinstance(paths, (str, Path)):
        raise TypeError(f"average_weights: given the one path {paths}, expected several, in a list")
    mean = _Mean()
    for path in paths:
        mean.add(read_weights(path), str(path))
    return mean.result("average_weights: given no path, expected at least one")


class AverageLast(Callback):
    """Keeps the weights of the last evaluations of a Trainer's run, for their mean once it has ended.

        averaging = AverageLast(5)
        trainer = Trainer(model, ..., evaluate=..., evaluate_every=500, callbacks=[averaging])
        trainer.fit(batches, 5000)
        model.load_state_dict(averaging.mean())     # and then evaluate and save the model

    They are kept in CPU memory, and in every checkpoint, so that a resumed run has the mean of an unbroken one. A
    run that is to be trained further goes on from its checkpoint, not from the mean.

    Args:
        count: how many sets of weights, the latest; a shorter run has as many as it has evaluations.

    Raises:
        ValueError: `count` is less than 1.
    """

    def __init__(self, count: int = 5) -> None:
        if count < 1:
            raise ValueError(f"AverageLast: given count={count}, expected at least 1")
        self.count = count
        self.steps: list[int] = []
        self._weights: list[dict[str, Tensor]] = []

    def on_evaluate(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        self._keep([*self.steps, metrics["step"]], [*self._weights, _copies(trainer.model.state_dict())])

    def mean(self) -> dict[str, Tensor]:
        """The mean of the weights at `steps`, as `model.load_state_dict` takes it, on the CPU.

        Raises:
            ValueError: there has been no evaluation.
        """
        mean = _Mean()
        for step, weights in zip(self.steps, self._weights, strict=True):
            mean.add(weights, f"step {step}")
        return mean.result("AverageLast: there has been no evaluation, so that no weights were kept")

    def state_dict(self) -> dict[str, Any]:
        return {"steps": list(self.steps), "weights": list(self._weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._keep(state["steps"], state["weights"])

    def _keep(self, steps: list[int], weights: list[dict[str, Tensor]]) -> None:
        self.steps, self._weights = steps[-self.count :], weights[-self.count :]


class _Mean:
    """Sums sets of weights in float64, one after the other."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""
        self.last: dict[str, Tensor] = {}
        self.totals: dict[str, Tensor] = {}

    def add(self, weights: Mapping[str, Tensor], where: str) -> None:
        """`where` they are from, for messages."""
        if self.count == 0:
            self.first = where
        else:
            self._check(weights, where)
        for name, tensor in weights.items():
            if not tensor.is_floating_point():
                continue
            if name in self.totals:
                self.totals[name].add_(tensor)
            else:
                self.totals[name] = tensor.to(torch.float64, copy=True)
        self.count, self.last = self.count + 1, dict(weights)

    def result(self, nothing: str) -> dict[str, Tensor]:
        """The mean; ValueError with the message `nothing` where there is none."""
        if self.count == 0:
            raise ValueError(nothing)
        return {
            # mean = (w_1 + ... + w_n) / n                                                                    (1)
            name: (self.totals[name] / self.count).to(tensor.dtype) if name in self.totals else tensor.clone()
            for name, tensor in self.last.items()
        }

    def _check(self, weights: Mapping[str, Tensor], where: str) -> None:
        for here, there, name in (
            *((where, self.first, name) for name in self.last if name not in weights),
            *((self.first, where, name) for name in weights if name not in self.last),
        ):
            raise CheckpointError(f"{here} has no {name}, but {there} has: weights of one model can be averaged only")
        for name, tensor in weights.items():
            expected = self.last[name]
            if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
                raise CheckpointError(
                    f"{where} has {name} of shape {tuple(tensor.shape)} in {tensor.dtype}, {self.first} of shape "
                    f"{tuple(expected.shape)} in {expected.dtype}: weights of one model can be averaged only"
                )


def _copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; names that share a memory, as tied weights do, share the copy."""
    copies: dict[tuple[Any, ...], Tensor] = {}
    named = {}
    for name, tensor in state.items():
        memory = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if memory not in copies:
            copies[memory] = tensor.detach().to("cpu", copy=True)
        named[name] = copies[memory]
    return named
