"""What a second process brings, and how much of the communication backward hides: python benchmarks/distributed.py.

An MLP 784-1024-1024-10 with Adam and a global batch of 256 rows, one thread a process, all on this machine.

- scaling: steps of one process with 256 rows against those of two with 128 each, which run at the same time;
- hidden share: three kinds of steps of the two processes in turn: gradients averaged while backward runs (A), averaged
  after it (B), not averaged at all (C). What overlap hides is (B - A) / (B - C).
"""

import argparse
import multiprocessing
import os
import statistics
import time
from datetime import timedelta
from typing import Any

import torch
from ds_core import Adam, CrossEntropyLoss, DataParallel, Linear, Processes, ReLU, Sequential
from ds_core.training.compile_step import StepParts
from torch.distributed import TCPStore

WIDTHS, ROWS = (784, 1024, 1024, 10), 256
KINDS = ("overlapping", "after backward", "none")


def build() -> Any:
    torch.manual_seed(0)
    layers = [Linear(WIDTHS[0], WIDTHS[1]), ReLU(), Linear(WIDTHS[1], WIDTHS[2]), ReLU(), Linear(WIDTHS[2], WIDTHS[3])]
    model = Sequential(*layers)
    return model, StepParts(model, CrossEntropyLoss(), Adam(model.parameters()))


def rows_of(rank: int, world_size: int) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    x, target = torch.randn(ROWS, WIDTHS[0], generator=generator), torch.randint(10, (ROWS,), generator=generator)
    return [(x.chunk(world_size)[rank], target.chunk(world_size)[rank])]


def alone(steps: int) -> list[float]:
    """Seconds of each step of one process."""
    torch.set_num_threads(1)
    _, parts = build()
    batch, times = rows_of(0, 1), []
    for _ in range(steps + 3):
        began = time.perf_counter()
        parts.gradients(batch)
        parts.update()
        times.append(time.perf_counter() - began)
    return times[3:]


def one_of_several(rank: int, world_size: int, port: int, steps: int, megabytes: float, queue: Any) -> None:
    """Send the seconds of each step, by kind, from rank 0."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    torch.set_num_threads(1)
    with Processes() as processes:
        model, parts = build()
        parallel = DataParallel(model, processes=processes, bucket_mb=megabytes)
        batch, denominator = rows_of(rank, world_size), torch.tensor(float(ROWS), dtype=torch.float64)
        times: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(3 * (steps + 3)):
            kind = KINDS[number % 3]
            processes.gather(None)  # all begin at the same time
            began = time.perf_counter()
            if kind == "overlapping":
                with parallel.reducing(scale=1.0):
                    parts.gradients(batch, denominator)
            else:
                parts.gradients(batch, denominator)
                if kind == "after backward":
                    with parallel.reducing(scale=1.0):
                        pass
            parts.update()
            times[kind].append(time.perf_counter() - began)
        if rank == 0:
            queue.put({kind: seconds[3:] for kind, seconds in times.items()})


def fast(times: list[float]) -> float:
    """What a tenth of the steps do not exceed: with other work on the machine, two cores are seldom free at once."""
    return statistics.quantiles(times, n=10)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="steps of each kind in a round")
    parser.add_argument("--rounds", type=int, default=5, help="how often one process and several take turns")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--bucket-mb", type=float, default=25.0)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    single: list[float] = []
    several: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(options.rounds):
        single += alone(options.steps)
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
        queue = context.Queue()
        arguments = (options.processes, store.port, options.steps, options.bucket_mb, queue)
        started = [context.Process(target=one_of_several, args=(rank, *arguments)) for rank in range(options.processes)]
        for process in started:
            process.start()
        for kind, seconds in queue.get().items():
            several[kind] += seconds
        for process in started:
            process.join()
    one = fast(single)
    hiding, after, none = (fast(several[kind]) for kind in KINDS)
    print(f"MLP {'-'.join(map(str, WIDTHS))}, {ROWS} rows a step, Adam, one thread a process; milliseconds")
    print(f"  1 process                            {one * 1e3:7.2f}")
    print(f"  {options.processes} processes, averaging in backward    {hiding * 1e3:7.2f}   {one / hiding:.2f} as fast")
    print(f"  {options.processes} processes, averaging after it       {after * 1e3:7.2f}   {one / after:.2f}")
    print(f"  {options.processes} processes, not averaging            {none * 1e3:7.2f}   {one / none:.2f}")
    hidden = (after - hiding) / (after - none) if after > none else float("nan")
    print(f"  share of the communication hidden    {hidden:7.0%}")


if __name__ == "__main__":
    main()
