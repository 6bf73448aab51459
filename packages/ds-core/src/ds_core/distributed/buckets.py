"""Gradients in buckets, each summed over all processes as soon as backward has completed it.

Theory: docs/distributed.md.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.distributed.processes import Pending, Processes


class Plan:
    """Which parameters share a bucket, and how often each is given a gradient in a step.

    Args:
        parameters: those that are trained.
        order: their indices, as backward completes them; the same on all processes.
        sizes: bytes of the first bucket, which should be on its way early, and of the others. A bucket ends with the
            parameter that fills it.

    Attributes:
        buckets: lists of indices, in the order in which their sums are begun.
    """

    def __init__(self, parameters: Sequence[Tensor], order: Sequence[int], sizes: tuple[int, int]) -> None:
        self.parameters = list(parameters)
        self.order = list(order)
        self.buckets: list[list[int]] = []
        open_buckets: dict[Any, tuple[list[int], int]] = {}  # by dtype and device: indices, bytes
        for index in order:
            tensor = parameters[index]
            kind = (tensor.dtype, tensor.device)
            bucket, size = open_buckets.pop(kind, ([], 0))
            bucket.append(index)
            size += tensor.numel() * tensor.element_size()
            if size >= sizes[min(len(self.buckets), 1)]:
                self.buckets.append(bucket)
            else:
                open_buckets[kind] = (bucket, size)
        self.buckets += [bucket for bucket, _ in open_buckets.values()]
        self.bucket_of = {index: number for number, bucket in enumerate(self.buckets) for index in bucket}
        self.calls: list[int] | None = None

    def learn(self, calls: Sequence[int]) -> None:
        """Remember how many calls a step made, of each parameter the most there have been in a step."""
        if any(calls):  # a step without rows makes none, and tells nothing
            self.calls = [max(pair) for pair in zip(calls, self.calls or calls, strict=True)]

    def awaited(self) -> list[int] | None:
        """Of each bucket the number of parameters to be waited for; None as long as that is not known."""
        if self.calls is None:
            return None
        return [sum(self.calls[index] > 0 for index in bucket) for bucket in self.buckets]


class Sums:
    """What a step sums besides gradients; for one process nothing has to be done.

    Attributes:
        sums: numbers to be summed along, float64; after the step the sums.
    """

    def __init__(self) -> None:
        self.sums: list[float] = []


class Reduction(Sums):
    """The averaging of one step's gradients: `tell` follows each `accumulate`, `finish` the backward pass.

    A bucket travels as one vector: the gradients, zeros for those that are not there, and for each a one or a zero
    that says which. A gradient that no process has thus stays None, and every process sums the same vectors in the same
    order, whatever its own backward did.
    """

    def __init__(self, processes: Processes, parameters: Sequence[Tensor], plan: Plan | None, scale: float) -> None:
        super().__init__()
        self._processes, self._plan, self._scale = processes, plan, scale
        self._parameters = list(parameters)
        self._index = {id(parameter): index for index, parameter in enumerate(parameters)}
        self._calls = [0] * len(self._parameters)
        self._completed: dict[int, None] = {}  # the indices, that of the last call last
        self._awaited = None if plan is None else plan.awaited()
        self._sent: list[tuple[Tensor, Pending]] = []
        self._late: set[int] = set()

    def tell(self, parameter: Tensor) -> None:
        """A gradient was added to `parameter`; begins the sums of the buckets that are complete by it."""
        index = self._index.get(id(parameter))
        if index is None:
            return
        self._calls[index] += 1
        if self._plan is None:
            self._completed.pop(index, None)
            self._completed[index] = None
        elif self._plan.bucket_of[index] < len(self._sent):
            self._late.add(self._plan.bucket_of[index])
        elif self._awaited is not None and self._plan.calls is not None:
            self._awaited[self._plan.bucket_of[index]] -= self._calls[index] == self._plan.calls[index]
            # the last bucket waits for `finish`, when nothing can come any more: it would gain nothing
            while len(self._sent) < len(self._awaited) - 1 and self._awaited[len(self._sent)] <= 0:
                self._send(self._plan)

    def order(self) -> list[int]:
        """The indices as this step completed them; then those without a call, the last parameter first."""
        return [*self._completed, *[i for i in reversed(range(len(self._calls))) if i not in self._completed]]

    def finish(self, plan: Plan) -> None:
        """Sum what has not been summed, wait for all, and put the results into `.grad`."""
        while len(self._sent) < len(plan.buckets):
            self._send(plan)
        late = [float(number in self._late) for number in range(len(plan.buckets))]
        along = torch.tensor([*late, *self.sums], dtype=torch.float64)
        for pending in [*[pending for _, pending in self._sent], self._processes.sum(along)]:
            pending.wait()
        late, self.sums = along.tolist()[: len(late)], along.tolist()[len(late) :]
        for number, bucket in enumerate(plan.buckets):
            vector = self._sent[number][0]
            if late[number] > 0:  # on some process a gradient came after its bucket had gone: a second sum is added
                rest = self._vector(plan, bucket)
                self._processes.sum(rest).wait()
                vector += rest
            self._unpack(plan, bucket, vector)
        plan.learn(self._calls)

    def _send(self, plan: Plan) -> None:
        vector = self._vector(plan, plan.buckets[len(self._sent)])
        self._sent.append((vector, self._processes.sum(vector)))

    def _vector(self, plan: Plan, bucket: Sequence[int]) -> Tensor:
        """The gradients of a bucket, which are None afterwards, and what says which were there."""
        parameters = [plan.parameters[index] for index in bucket]
        gradients = [parameter.grad for parameter in parameters]
        there = parameters[0].new_tensor([float(gradient is not None) for gradient in gradients])
        parts = [
            (parameter.new_zeros(parameter.shape) if gradient is None else gradient).reshape(-1)
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]
        vector = torch.cat([*parts, there])
        if self._scale != 1:
            vector[: -len(bucket)].mul_(self._scale)
        for parameter in parameters:
            parameter.grad = None
        return vector

    def _unpack(self, plan: Plan, bucket: Sequence[int], vector: Tensor) -> None:
        there = vector[-len(bucket) :].tolist()
        parameters = [plan.parameters[index] for index in bucket]
        parts = torch.split(vector[: -len(bucket)], [parameter.numel() for parameter in parameters])
        for parameter, part, count in zip(parameters, parts, there, strict=True):
            parameter.grad = part.view(parameter.shape) if count > 0 else None
