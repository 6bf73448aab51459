"""A dedicated process faults no pages in once it has grown, and collects the garbage it makes."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from ds_core.training.process_settings import dedicate_process
if sys.argv[1] == "yes":
    assert dedicate_process()
def step():
    kept = [torch.ones(2**18) for _ in range(20)]  # 1 MB each
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

GARBAGE = """
import gc, weakref
from ds_core.training.process_settings import dedicate_process
class Loop: pass
dedicate_process()
assert gc.get_freeze_count() > 0
loop = Loop()
loop.itself = loop
gone = weakref.ref(loop)
del loop
gc.collect()
print(gone() is None)
"""


def run(program: str, *arguments: str) -> str:
    # glibc's own limit, but fixed: it would rise as blocks are freed, by chance beyond what the program asks for
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_stays_with_the_process() -> None:
    pages = 10 * 20 * 2**20 // 4096
    assert int(run(FAULTS, "no")) > pages / 2  # else there would be nothing to mend
    assert int(run(FAULTS, "yes")) < pages / 100


def test_garbage_is_still_collected() -> None:
    assert run(GARBAGE) == "True"
