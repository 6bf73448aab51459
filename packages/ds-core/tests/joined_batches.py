"""SyncBatchNorm in several processes, real ones or threads that stand for them, and what the joined batch gives."""

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from ds_core import Recompute, SyncBatchNorm, record
from torch import Tensor

Found = dict[str, Any]


def one_pass(layer: SyncBatchNorm, x: Tensor, dy: Tensor | None, how: str) -> Found:
    """Forward and backward of one process's part; `how`: handwritten, autograd, recomputed or parameters (alone)."""
    if how == "autograd":
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(torch.zeros_like(y) if dy is None else dy)
        dx = leaf.grad
    else:
        with record():
            model = Recompute(layer) if how == "recomputed" else layer
            y = model(x)
            dx = model.backward(dy, input_gradient=how != "parameters")
    gradients = {f"d{name}": tensor.grad for name, tensor in layer.named_parameters()}
    return {"y": y.detach(), "dx": dx, **gradients, **dict(layer.named_buffers())}


def joined_pass(layer: SyncBatchNorm, parts: Sequence[Tensor], dys: Sequence[Tensor | None]) -> list[Found]:
    """What torch.nn.BatchNorm1d or 2d gives for all parts as one batch; the parameters' gradients are the sums."""
    twin_class = torch.nn.BatchNorm1d if parts[0].dim() < 4 else torch.nn.BatchNorm2d
    options = (layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    twin = twin_class(*options).to(parts[0].dtype).train(layer.training)
    twin.load_state_dict(layer.state_dict())
    x = torch.cat(list(parts)).requires_grad_()
    y = twin(x)
    y.backward(torch.cat([torch.zeros_like(x) if dy is None else dy for x, dy in zip(parts, dys, strict=True)]))
    shared = {f"d{name}": tensor.grad for name, tensor in twin.named_parameters()} | dict(twin.named_buffers())
    sizes = [len(part) for part in parts]
    return [{"y": a, "dx": b, **shared} for a, b in zip(y.detach().split(sizes), x.grad.split(sizes), strict=True)]


def compare(found: Sequence[Found], expected: Sequence[Found], how: str) -> None:
    """Outputs, input gradients and buffers of each process, and the sums of the parameters' gradients."""
    for mine, right in zip(found, expected, strict=True):
        for name in right:
            if name in ("dweight", "dbias"):
                given = [each[name] for each in found if each[name] is not None]
                torch.testing.assert_close(torch.stack(given).sum(0), right[name])
            elif name == "dx" and how == "parameters":
                assert mine["dx"] is None
            else:
                torch.testing.assert_close(mine[name], right[name])


class Threads:
    """Stands for torch.distributed where each thread is a process: what SyncBatchNorm uses of it."""

    def __init__(self, count: int) -> None:
        self.count, self.slots = count, [torch.empty(0)] * count
        self.barrier, self.local = threading.Barrier(count, timeout=20), threading.local()
        self.asked: list[Any] = []  # the group of each collective

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def get_world_size(self, group: Any = None) -> int:
        return self.count

    def get_rank(self, group: Any = None) -> int:
        return int(self.local.rank)

    def all_gather(self, rows: list[Tensor], tensor: Tensor, group: Any = None) -> None:
        for row, other in zip(rows, self._exchanged(tensor, group), strict=True):
            row.copy_(other)

    def all_reduce(self, tensor: Tensor, group: Any = None) -> None:
        tensor.copy_(torch.stack(self._exchanged(tensor, group)).sum(0))

    def _exchanged(self, tensor: Tensor, group: Any) -> list[Tensor]:
        self.asked.append(group)
        self.slots[self.local.rank] = tensor.clone()
        self.barrier.wait()
        found = list(self.slots)
        self.barrier.wait()
        return found

    def run(self, process: Callable[[int], Found]) -> list[Found]:
        """`process(rank)` in every thread; where one raises, so do the others that wait for it."""

        def guarded(rank: int) -> Found:
            self.local.rank = rank
            try:
                return process(rank)
            except BaseException:
                self.barrier.abort()
                raise

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(guarded, range(self.count)))


def passes(layer: SyncBatchNorm, parts: Sequence[Tensor], dys: Sequence[Tensor | None], how: str, rank: int) -> Found:
    return one_pass(copy.deepcopy(layer), parts[rank], dys[rank], how)


def gloo_process(cases: list[tuple[Any, ...]]) -> list[Found]:
    """In a real process: every case's pass."""
    torch.distributed.init_process_group("gloo")
    found = [passes(*case, torch.distributed.get_rank()) for case in cases]
    torch.distributed.destroy_process_group()
    return found
