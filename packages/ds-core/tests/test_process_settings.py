"""A dedicated process faults no pages in once it has grown, and collects the garbage it makes."""

import os
import subprocess
import sys

import pytest

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
