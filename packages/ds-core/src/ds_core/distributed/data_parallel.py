"""Several processes train copies of one model, each on its share of every batch. Theory: docs/distributed.md."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ds_core.data.batches import Batches
from ds_core.distributed.batch_shard import share_of
from ds_core.distributed.buckets import Plan, Reduction, Sums
from ds_core.distributed.processes import OneProcess, Processes, current
from ds_core.engine.nested_values import leaves, map_leaves
from ds_core.engine.parameter import watched_accumulation
from ds_core.engine.random_state import seed_for_rank
from ds_core.errors import UserError
from ds_core.interrupts import Interrupts, SharedInterrupts


class DriftError(UserError):
    """The copies of a model are no longer equal."""

    exit_status = 1


class DataParallel:
    """Keeps the copies of a model equal: the same weights to begin with, the same averaged gradients in each step.

        parallel = DataParallel(model)
        for index in range(steps):
            x, y = batches.batch(index)                # this process's share
            with parallel.reducing(), record():
                loss = criterion(model(x), y)
                model.backward(criterion.backward())
            optimizer.step()
            optimizer.zero_grad()

    With one process it does nothing. Constructing it gives every process rank 0's weights and buffers, and PyTorch's
    generators of each rank above 0 a seed of their own, so that their dropout masks differ.

    Args:
        modules: what has parameters or buffers: the model, a criterion too.
        processes: default those of the open `with Processes()`.
        bucket_mb: the size in MB (2^20 bytes) of the buckets in which gradients travel.
        first_bucket_mb: that of the first one.

    Raises:
        ValueError: a size that is not positive.
        UserError: the processes hold different models.
    """

    def __init__(
        self,
        *modules: Any,
        processes: OneProcess | None = None,
        bucket_mb: float = 25.0,
        first_bucket_mb: float = 1.0,
    ) -> None:
        for name, size in (("bucket_mb", bucket_mb), ("first_bucket_mb", first_bucket_mb)):
            if not size > 0:
                raise ValueError(f"DataParallel: given {name}={size}, expected more than 0")
        self.processes = current() if processes is None else processes
        self._sizes = (int(first_bucket_mb * 2**20), int(bucket_mb * 2**20))
        self._plan: Plan | None = None
        self._order: list[int] | None = None
        self._trained: tuple[Any, ...] = ()
        self._interrupts: SharedInterrupts | None = None
        self._parameters: list[Tensor] = []
        self._buffers: list[Tensor] = []
        if isinstance(self.processes, Processes):
            self._begin(modules, self.processes)

    def _begin(self, modules: Sequence[Any], processes: Processes) -> None:
        parameters, buffers = _named(modules, "parameters"), _named(modules, "buffers")
        own = {name: f"{tuple(tensor.shape)} {tensor.dtype}" for name, tensor in (parameters | buffers).items()}
        differences = processes.gather(_difference(processes.same(own), own))
        for rank, text in enumerate(differences):
            if text is not None:
                raise UserError(f"rank {rank} holds another model than rank 0: {text}")
        self._parameters, self._buffers = list(parameters.values()), list(buffers.values())
        processes.broadcast([*self._parameters, *self._buffers])
        if not processes.first:
            seed_for_rank(processes.rank)

    @contextmanager
    def reducing(self, scale: float | None = None) -> Iterator[Sums]:
        """Average over all processes what backward adds to `.grad` inside, and what was there before.

        Inside stands the last backward pass before the optimizer's step; of several micro-batches the last. At the
        end every gradient is the average, and buffers have rank 0's values.

        Args:
            scale: what each process's gradients are multiplied by before they are summed; default 1 / world_size.

        Yields:
            An object whose `sums`, a list of numbers, is summed along.
        """
        if not isinstance(self.processes, Processes):
            yield Sums()
            return
        parameters = [parameter for parameter in self._parameters if parameter.requires_grad]
        trained = tuple((id(parameter), parameter.dtype, parameter.device) for parameter in parameters)
        if trained != self._trained:
            self._plan, self._trained = None, trained
        scale = 1 / self.processes.world_size if scale is None else scale
        reduction = Reduction(self.processes, parameters, self._plan, scale)
        with watched_accumulation(reduction.tell):
            yield reduction
        reduction.sums.append(float(self._interrupts is not None and self._interrupts.asked))
        with torch.no_grad():
            if self._plan is None:
                self._plan = self._new_plan(self.processes, parameters, reduction)
            reduction.finish(self._plan)
            self.processes.broadcast(self._buffers)
        if reduction.sums.pop() > 0 and self._interrupts is not None:
            self._interrupts.requested = True

    def _new_plan(self, processes: Processes, parameters: list[Tensor], reduction: Reduction) -> Plan:
        if self._order is None or sorted(self._order) != list(range(len(parameters))):
            self._order = processes.same(reduction.order())
        return Plan(parameters, self._order, self._sizes)

    def share(self, batches: Batches) -> Batches:
        """This process's share of `batches`; those that have a `world_size` are cut already.

        Raises:
            ValueError: they are cut for another number of processes.
        """
        return share_of(batches, self.processes.rank, self.processes.world_size)

    def total(self, value: Any) -> Any:
        """The sum over all processes of each tensor () in a structure of them, in float64; None stays None."""
        found = [leaf for leaf in leaves(value) if leaf is not None]
        if not isinstance(self.processes, Processes) or not found:
            return value
        vector = torch.stack([leaf.double().to(found[0].device) for leaf in found])  # at once: each sum is a wait
        self.processes.sum(vector).wait()
        sums = iter(vector.unbind())
        return map_leaves(lambda leaf: None if leaf is None else next(sums), value)

    def interrupts(self, heard: str) -> Interrupts:
        """What notices Ctrl-C; `requested` becomes true on all processes at the end of the same step."""
        if not isinstance(self.processes, Processes):
            return Interrupts(heard)
        self._interrupts = SharedInterrupts(heard)
        return self._interrupts

    def agree(self, reason: str | None) -> str | None:
        """The first reason that any process has, in the order of their ranks."""
        if not isinstance(self.processes, Processes):
            return reason
        given = torch.tensor(float(reason is not None))  # asked first, because it is cheaper than to gather words
        self.processes.sum(given).wait()
        reasons = self.processes.gather(reason) if given > 0 else []
        return next((reason for reason in reasons if reason is not None), None)

    def first_that_found(self, found: str, nothing: str) -> str:
        """Of what all processes have to say the first that does not begin with `nothing`, and whose it is."""
        every = self.processes.gather(found)
        for rank, text in enumerate(every):
            if not text.startswith(nothing):
                return text if len(every) == 1 else f"on rank {rank} {text}"
        return every[0]

    def check_equal(self) -> None:
        """Raise `DriftError` if the weights of some process are not rank 0's, bit for bit."""
        if isinstance(self.processes, Processes):
            own = 0
            for parameter in self._parameters:
                own = zlib.crc32(np.asarray(parameter.detach().cpu().reshape(-1).view(torch.uint8)).data, own)
            sums = self.processes.gather(own)
            if len(set(sums)) > 1:
                rank = next(rank for rank, other in enumerate(sums) if other != sums[0])
                raise DriftError(
                    f"the weights of rank {rank} are no longer those of rank 0: something has changed them on one "
                    "process alone (a callback that runs on one, or draws at random?)"
                )

    def state_dict(self) -> dict[str, Any]:
        """The order of the parameters in the buckets, on which the rounding of sums depends."""
        return {} if self._order is None else {"order": self._order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._order, self._plan = state.get("order"), None


def _named(modules: Sequence[Any], kind: str) -> dict[str, Tensor]:
    """Parameters or buffers of the modules by name, each once; not the buffers that `state_dict` leaves out."""
    found: dict[int, tuple[str, Tensor]] = {}
    for number, module in enumerate(modules):
        for name, tensor in getattr(module, f"named_{kind}", tuple)():
            if kind == "parameters" or not name.rpartition(".")[2].startswith("_"):
                found.setdefault(id(tensor), (f"{type(module).__name__}.{name}" if number else name, tensor))
    return dict(found.values())


def _difference(theirs: dict[str, str], own: dict[str, str]) -> str | None:
    """How rank 0's tensors and this rank's differ, the first of the differences."""
    if list(theirs.items()) == list(own.items()):
        return None
    for name in [*theirs, *own]:
        if theirs.get(name) != own.get(name):
            return f"{name} is {own.get(name, 'not there')}, on rank 0 {theirs.get(name, 'not there')}"
    return "their parameters are in another order"
