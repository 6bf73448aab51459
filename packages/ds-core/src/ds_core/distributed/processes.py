"""The processes that train together, started by torchrun: what they tell each other, and how they begin and end."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ds_core.distributed.failure import Board, PeerError, describe_failure
from ds_core.errors import UserError, one_line

T = TypeVar("T")
TIMEOUT = 1800.0


class OneProcess:
    """What `Processes` is where there is only one: nobody to tell anything."""

    rank = 0
    world_size = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks to the user."""
        return self.rank == 0

    def same(self, value: T) -> T:
        """Rank 0's `value`, on all."""
        return value

    def gather(self, value: T) -> list[T]:
        """Every process's `value`, by rank, on all."""
        return [value]

    def on_first(self, function: Callable[[], T]) -> T:
        """Call `function` on rank 0 while the others wait; its result, or its failure, is everybody's.

        Raises:
            PeerError: on the others, where it fails.
        """
        return function()


class Processes(OneProcess):
    """The processes of a run, each with a copy of the model.

        with Processes() as processes:      # under torchrun
            ...

    CPU tensors go through gloo, CUDA tensors through nccl, and `cuda` means the device of this process's local rank.
    When the block ends by an error, the others are told, and end within seconds; where another process was first,
    `reported(error)` is true.

    Args:
        timeout: seconds that one process may wait for another. One that has ended is noticed at once, so this is
            for one that hangs; evaluations on rank 0 alone must be shorter.

    Raises:
        UserError: the environment is not what torchrun makes, or the processes do not find each other.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        try:
            self.rank, self.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
            limit = timedelta(seconds=timeout)
            self._store, _, _ = next(rendezvous("env://", timeout=limit))
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(
                backend, store=self._store, rank=self.rank, world_size=self.world_size, timeout=limit
            )
        except (KeyError, ValueError, RuntimeError) as error:
            raise UserError(f"cannot start with the other processes (is this torchrun?): {one_line(error)}") from error
        self._board = Board(PrefixStore("ds", self._store), self.rank, self.world_size)

    def same(self, value: T) -> T:
        values = [value]
        with self._all_take_part():
            dist.broadcast_object_list(values, 0)
        return values[0]

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.world_size
        with self._all_take_part():
            dist.all_gather_object(values, value)
        return values

    def on_first(self, function: Callable[[], T]) -> T:
        result, failure = None, None
        if self.first:
            try:
                result = function()
            except Exception as error:
                failure = error
        result, text = self.same((result, None if failure is None else describe_failure(failure)))
        if failure is not None:
            raise failure
        if text is not None:
            raise PeerError(f"rank 0 has failed: {text}", reported=True)
        return result  # type: ignore[return-value]

    def sum(self, tensor: Tensor) -> "Pending":
        """Begin to add up `tensor`, in place, over all processes."""
        with self._all_take_part():
            return Pending(self, dist.all_reduce(tensor, async_op=True))

    @torch.no_grad()
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give `tensors` the values of rank 0's, in place. Small ones travel together."""
        together: dict[Any, list[Tensor]] = {}
        for number, tensor in enumerate(tensors):
            kind = number if tensor.numel() > 2**18 else (tensor.dtype, tensor.device)
            together.setdefault(kind, []).append(tensor)
        for group in together.values():
            vector = torch.cat([tensor.reshape(-1) for tensor in group])
            with self._all_take_part():
                dist.broadcast(vector, 0)
            for tensor, part in zip(group, torch.split(vector, [tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def __enter__(self) -> "Processes":
        global _current
        _current = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        global _current
        _current = OneProcess()
        if error is None or (isinstance(error, SystemExit) and not error.code):
            with self._all_take_part():
                dist.barrier()
            self._board.close()
            dist.destroy_process_group()
        elif isinstance(error, PeerError):
            self._board.close()
        elif not self._board.report(describe_failure(error)):
            error.reported = True  # type: ignore[attr-defined]  # the program is to say nothing of it (see `reported`)

    @contextmanager
    def _all_take_part(self) -> Iterator[None]:
        """Say which process is gone where an operation of all fails."""
        try:
            yield
        except RuntimeError as error:
            raise self._board.explain(error) from None


class Pending:
    """A sum that is being made."""

    def __init__(self, processes: Processes, work: Any) -> None:
        self._processes, self._work = processes, work

    def wait(self) -> None:
        """Return when it is there."""
        with self._processes._all_take_part():
            self._work.wait()


_current: OneProcess = OneProcess()


def reported(error: BaseException) -> bool:
    """Whether another process has told the user already why the run has ended."""
    return getattr(error, "reported", False)


def current() -> OneProcess:
    """The processes that train together now: those of the open `with Processes()`, or this one alone."""
    return _current


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun, or something like it, has started."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1
