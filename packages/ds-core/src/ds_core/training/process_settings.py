"""Settings for a process that does nothing but train. Theory: docs/process_settings.md."""

import ctypes
import gc
import sys
import time

import torch

# The parameters of glibc's mallopt, from its malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def dedicate_process() -> bool:
    """Let this process keep the memory that it frees, and spare the garbage collector what is there already.

    Every training step frees its activations and asks for the same sizes again. By default the C library hands much
    of what is freed back to the operating system and gets it anew, zeroed page by page, which took a fifth of the
    time of a small GPT's step on CPU. Blocks of 32 MB and more are handed back as before. It is meant for whoever owns
    the process, as `ds train` does; a library should not call it. Call it after the imports.

    Returns:
        Whether the allocator was set: it is where the C library is glibc, on Linux.
    """
    gc.collect()
    gc.freeze()  # modules and classes live as long as the process: no collection need visit them again
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    # map only blocks of 32 MB and more on their own (glibc takes no higher limit), never give the end of the heap back,
    # and get 64 MB at a time
    settings = [(_MMAP_THRESHOLD, 32 * 2**20), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20)]
    taken = [mallopt(name, value) == 1 for name, value in settings]
    return all(taken)


def busy_note(seconds: float = 0.05) -> str | None:
    """What to set where the processors are too busy for this process's threads; None if they are not, or it has one.

    It is found by trial, in `seconds`: how much of their time the threads get. The system's load average would still
    count what has ended, and knows nothing of the share that a container is held to.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return None
    numbers = torch.ones(threads * 2**16)  # PyTorch divides no less than 2^15 numbers among threads
    numbers.add_(0)
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        numbers.add_(0)
    elapsed = time.perf_counter() - began
    processors = (time.process_time() - used) / elapsed
    if processors > 0.75 * threads:
        return None
    return (
        f"the {threads} threads of this run get the time of {processors:.1f} processors, because others compute here: "
        "threads that wait for each other may then be slower by far than one, so try --threads 1 (OMP_NUM_THREADS=1), "
        "or set GOMP_SPINCOUNT=0 before the start, which lets them wait without using a processor"
    )
