"""Rows of all processes for each of them: gathered in forward, summed back in backward. Theory: docs/gather_rows.md."""

import torch
import torch.distributed as dist
from torch import Tensor

from ds_core.distributed.processes import Processes, current
from ds_core.engine.module import Module

# K = processes, n_k = rows of process k, N = n_1 + ... + n_K


def gathered_rows(x: Tensor) -> tuple[Tensor, int]:
    """x (n_k, ...) of each process -> the rows of all (N, ...) by rank, and which of them is this process's first.

    Only the number of rows may differ among processes. All of them must call it, in the same order as their other
    collectives. Autograd finds its way back: a row's gradient is the sum of what all processes find.
    """
    processes = current()
    if not isinstance(processes, Processes):
        return x, 0
    counts = _counts(x, processes)
    padded = torch.zeros(max(counts), *x.shape[1:], dtype=x.dtype, device=x.device)
    padded[: x.shape[0]] = x.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    with processes._all_take_part():
        dist.all_gather(parts, padded)
    rows = [part[:count] for part, count in zip(parts, counts, strict=True)]
    rows[processes.rank] = x
    y = torch.cat(rows)  # y = (x_1, ..., x_K), one below the other                                          (1)
    if y.requires_grad:
        y.register_hook(lambda gradient: _summed(gradient, processes))  # type: ignore[no-untyped-call]
    return y, sum(counts[: processes.rank])


def gathered_rows_backward(dy: Tensor, first: int, count: int) -> Tensor:
    """dy (N, ...) of each process's own loss -> dx (n_k, ...) of the sum of all losses."""
    processes = current()
    if not isinstance(processes, Processes):
        return dy
    # dx_k = rows of process k in sum_m dy^(m)                                                              (2)
    return _summed(dy, processes)[first : first + count].clone()


class GatherRows(Module):
    """The rows of all processes one below the other, on each of them.

        gather = GatherRows()
        everyone = gather(own)                   # (n_k, P) -> (N, P)
        down = gather.backward(deveryone)        # summed over the processes, this one's rows

    One process alone gets its own rows back. What waits: if one process calls forward or backward, all must. `None` as
    gradient stands for zeros, and the process still takes part.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (n_k, ...) -> y (N, ...)."""
        y, first = gathered_rows(x)
        self.save(x[:0], y.shape, first, x.shape[0])
        return y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy (N, ...) -> dx (n_k, ...); without `input_gradient`, which must hold on all processes, None."""
        like, shape, first, count = self.saved()
        if not input_gradient or (dy is None and not isinstance(current(), Processes)):
            return None
        if dy is None:
            dy = torch.zeros(shape, dtype=like.dtype, device=like.device)  # for the others wait for it
        return gathered_rows_backward(dy, first, count)


def _counts(x: Tensor, processes: Processes) -> list[int]:
    """n_1 ... n_K."""
    own = torch.tensor([x.shape[0]], device=x.device)
    every = [torch.empty_like(own) for _ in range(processes.world_size)]
    with processes._all_take_part():
        dist.all_gather(every, own)
    return [int(count) for count in torch.cat(every).tolist()]


def _summed(tensor: Tensor, processes: Processes) -> Tensor:
    """The sum of the processes' tensors of one shape.

    Reduce-scatter would send each process its own rows alone; gloo, which serves CPUs, has none.
    """
    total = tensor.detach().clone(memory_format=torch.contiguous_format)
    processes.sum(total).wait()
    return total
