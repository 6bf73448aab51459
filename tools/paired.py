"""Paired timings and peak memory of two implementations of one thing, for every benchmark of this repository.

    rows = [compare("softmax 4096 x 256", ours, theirs)]
    print_table(rows)

On a machine that does other work too, an absolute time means nothing and a ratio
of two times taken minutes apart means little. So the two sides run in turn
(A B A B ...), each pair gives one ratio, and the median of those is the figure.
"""

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

CPU = torch.profiler.ProfilerActivity.CPU

# A shorter measurement than this would mostly time the clock and the scheduler.
SHORTEST_SECONDS = 2e-3


class Row(NamedTuple):
    """One line of the table. Ratios are ours / theirs: below 1 is faster, or smaller."""

    name: str
    ratio: float
    low: float  # quartiles of the pairs' ratios: how far to trust the median
    high: float
    memory_ratio: float
    ours_seconds: float  # medians, for one call
    theirs_seconds: float
    pairs: int


def compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int = 30) -> Row:
    """Time `ours` and `theirs` in turn, `pairs` times each, after one warm-up call that also measures peak memory.

    Args:
        name: what the two compute, for the table.
        ours: one call of our side; inputs should exist beforehand, gradients be cleared inside.
        theirs: the same for PyTorch.
        pairs: how many A B pairs.
    """
    ours()
    theirs()
    peaks = peak_bytes(ours), peak_bytes(theirs)
    calls = max(1, round(SHORTEST_SECONDS / min(_seconds(ours, 1), _seconds(theirs, 1))))
    collecting = gc.isenabled()
    gc.disable()
    try:
        times = [(_seconds(ours, calls), _seconds(theirs, calls)) for _ in range(pairs)]
    finally:
        if collecting:
            gc.enable()
    ratios = sorted(a / b for a, b in times)
    return Row(
        name,
        statistics.median(ratios),
        ratios[len(ratios) // 4],
        ratios[-1 - len(ratios) // 4],
        peaks[0] / peaks[1] if peaks[1] > 0 else float("nan"),
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        pairs,
    )


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most bytes of tensors alive at one time during the call, beyond those alive when it began.

    On CPU it is summed from the allocator's own reports, so temporaries inside a
    kernel and what autograd keeps are counted and nothing depends on the
    operating system; on CUDA the allocator keeps the figure itself.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with _silent_stderr(), torch.profiler.profile(activities=[CPU], profile_memory=True) as profile:
        result = call()
        del result
    alive: dict[int, int] = {}
    level = peak = 0
    for address, size in _allocations(profile):
        if size > 0:
            alive[address] = size
            level += size
        else:
            level -= alive.pop(address, 0)  # what was alive before the call does not count
        peak = max(peak, level)
    return peak


def print_table(rows: Iterable[Row]) -> None:
    """Print one line a row: case, time ratio and its quartiles, peak-memory ratio, both medians, number of pairs."""
    rows = list(rows)
    width = max([len("case"), *(len(row.name) for row in rows)])
    print(f"{'case':<{width}}  ratio  (quartiles)   memory   ours ms  torch ms  pairs")
    for row in rows:
        print(
            f"{row.name:<{width}}  {row.ratio:5.2f}  ({row.low:4.2f}, {row.high:4.2f})    {row.memory_ratio:5.2f}  "
            f"{row.ours_seconds * 1e3:8.3f}  {row.theirs_seconds * 1e3:8.3f}  {row.pairs:5d}"
        )


def _seconds(call: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def _allocations(profile: torch.profiler.profile) -> Iterator[tuple[int, int]]:
    """(address, bytes) of every allocation, and with negative bytes of every release, in order of time."""
    profiler: Any = profile.profiler
    waiting = list(profiler.kineto_results.experimental_event_tree())
    found = []
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag.name == "Allocation":
            found.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size))
    return ((address, size) for _, address, size in sorted(found, key=lambda entry: entry[0]))


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler announces its start and stop on the process's standard error, whatever its log level."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
