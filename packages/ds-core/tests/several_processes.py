"""Starts the processes of a distributed test, and collects what they return, print and exit with."""

import multiprocessing
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributed import TCPStore

sys.path.append(str(Path(__file__).parent))  # for the processes, which import the module of their function

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "torch.distributed", "ds_core.training.trainer", "several_processes"])


class Ended(NamedTuple):
    """What a process left: its result (None where it failed), what it printed, its exit code and when it ended."""

    result: Any
    out: str
    err: str
    code: int
    seconds: float


class Started:
    """Processes that run; `wait` for them."""

    def __init__(self, world_size, function, *arguments, folder, kwargs=None, **environment):
        self.folder = Path(folder)
        # the store lives here, as it lives in torchrun's process, so that it survives every rank
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))
        shared = {
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self.processes = [
            _context.Process(
                target=_child,
                args=(self.folder / f"rank{rank}", {**shared, "RANK": str(rank)}, function, arguments, kwargs or {}),
            )
            for rank in range(world_size)
        ]
        for process in self.processes:
            process.start()
        self.began = time.monotonic()

    def wait(self, timeout=60.0) -> list[Ended]:
        """All of them; those that have not ended by then are killed, and the test fails."""
        left, ended = dict(enumerate(self.processes)), {}
        while left and time.monotonic() < self.began + timeout:
            for rank, process in list(left.items()):
                if process.exitcode is not None:
                    ended[rank] = time.monotonic() - self.began
                    del left[rank]
            time.sleep(0.02)
        for process in left.values():
            process.kill()
            process.join()
        found = [self._ended(rank, ended.get(rank, timeout)) for rank in range(len(self.processes))]
        assert not left, f"ranks {list(left)} have not ended: {found}"
        return found

    def _ended(self, rank, seconds):
        base = self.folder / f"rank{rank}"
        result = torch.load(f"{base}.pt", weights_only=False) if Path(f"{base}.pt").exists() else None
        out, err = (Path(f"{base}.{stream}").read_text() for stream in ("out", "err"))
        return Ended(result, out, err, self.processes[rank].exitcode, seconds)


def together(world_size, function, *arguments, folder, timeout=60.0, **options) -> list[Any]:
    """The results by rank of processes that all end well."""
    ended = Started(world_size, function, *arguments, folder=folder, **options).wait(timeout)
    assert all(one.code == 0 for one in ended), "\n".join(one.err for one in ended)
    return [one.result for one in ended]


def _child(base, environment, function, arguments, kwargs):
    os.environ.update(environment)
    for number, stream in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{base}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    torch.set_num_threads(1)
    result = function(*arguments, **kwargs)
    torch.save(result, f"{base}.pt")
