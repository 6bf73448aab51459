"""A dedicated process faults no pages in once it has grown, and collects its garbage; a run notices busy processors."""

import os
import re
import subprocess
import sys
import time

import pytest
import torch
from ds_core.training.process_settings import busy_note

PROGRAM = """
import gc, resource, torch, weakref
from ds_core.training.process_settings import dedicate_process
class Loop: pass
def faults():
    def step():
        kept = [torch.ones(2**18) for _ in range(20)]  # 1 MB each
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
print(dedicate_process())
print(faults())
assert gc.get_freeze_count() > 0
loop = Loop()
loop.itself = loop
gone = weakref.ref(loop)
del loop
gc.collect()
print(gone() is None)
"""


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """Of one process: page faults before it is dedicated, whether it could be, those after, whether garbage goes."""
    # glibc's own limit, but fixed: it would rise as blocks are freed, by chance beyond what the program asks for
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_stays_with_the_process(printed: list[str]) -> None:
    pages = 10 * 20 * 2**20 // 4096
    before, dedicated, after, _ = printed
    assert int(before) > pages / 2  # else there would be nothing to mend
    assert dedicated == "True"
    assert int(after) < pages / 100


def test_garbage_is_still_collected(printed: list[str]) -> None:
    assert printed[-1] == "True"


BUSY = """
import os, sys
threads = int(sys.argv[1])
if threads > 1:
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # before any thread is started
import torch
from ds_core.training.process_settings import busy_note
torch.set_num_threads(threads)
print(busy_note())
"""


def busy(threads: int) -> str:
    done = subprocess.run([sys.executable, "-c", BUSY, str(threads)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="binds a process to one processor")
def test_threads_without_processors_of_their_own_are_noticed() -> None:
    note = busy(2)
    found = re.fullmatch(r"the 2 threads of this run get the time of (\d\.\d) processors, .*", note)
    assert found is not None, note
    assert float(found[1]) <= 1.1
    for setting in ("--threads 1", "OMP_NUM_THREADS=1", "GOMP_SPINCOUNT=0"):
        assert setting in note


def test_one_thread_waits_for_nobody() -> None:
    assert busy(1) == "None"


@pytest.mark.parametrize(("processors", "is_noted"), [(4.0, False), (3.2, False), (2.9, True), (1.0, True)])
def test_threads_that_get_their_time_say_nothing(
    processors: float, is_noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0

    def wall() -> float:
        nonlocal seconds
        seconds += 0.01
        return seconds

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(time, "perf_counter", wall)
    monkeypatch.setattr(time, "process_time", lambda: seconds * processors)
    assert (busy_note() is not None) == is_noted
