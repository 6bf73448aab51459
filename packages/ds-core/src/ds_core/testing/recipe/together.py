"""Two processes train the model that one trains."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from ds_core.atomic_files import write_atomically
from ds_core.testing.recipe.outcome import logged, weights
from ds_core.testing.recipe.sessions import Session
from ds_core.testing.recipe.under_test import RecipeUnderTest, Words, split


@contextmanager
def _store(note: Path) -> Iterator[str]:
    """The port of the store by which processes find each other, kept by a process of its own as torchrun does.

    Its threads must not be this process's: a child forked while another thread holds a lock never sees it released.
    """
    keeper = os.fork()
    if keeper == 0:
        try:
            store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
            write_atomically(note, str(store.port))
            while os.getppid() != 1:  # its parent has ended
                time.sleep(0.2)
        finally:
            os._exit(0)
    try:
        until = time.monotonic() + 60
        while not note.exists() and time.monotonic() < until:
            time.sleep(0.01)
        yield note.read_text()
    finally:
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)


def check_together(
    recipe: RecipeUnderTest, words: Words, comparable: Callable[[str, Tensor], Tensor], tolerance: float | None
) -> None:
    """Two processes that share each batch reach the losses and the weights of one, and the first alone writes."""
    alone, shared = recipe.folder / "one", recipe.folder / "two"
    more = split(words)
    recipe.expect(recipe.train(*recipe.words, *more, out=alone), 0, "one process")
    command = ["train", recipe.recipe.name, "--out", str(shared), *recipe.words, *more]
    with _store(recipe.folder / "port") as port:
        environment = {
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "DS_TIMEOUT": "60",
        }
        sessions = [
            Session(recipe.recipe, command, recipe.folder, environment={**environment, "RANK": str(rank)})
            for rank in range(2)
        ]
        ended = [session.wait() for session in sessions]
    for rank, one in enumerate(ended):
        recipe.expect(one, 0, f"process {rank} of two")
    if ended[1].out:
        recipe.fail(f"the second of two processes prints {ended[1].out[:200]!r}, expected nothing")
    names = [sorted(path.name for path in folder.iterdir()) for folder in (alone, shared)]
    if names[0] != names[1]:
        recipe.fail(f"two processes leave {names[1]}, one leaves {names[0]}")
    expected = weights(alone)
    if tolerance is None:
        dtypes = {tensor.dtype for tensor in expected.values() if tensor.is_floating_point()}
        tolerance = 1e-9 if dtypes == {torch.float64} else 1e-4
    near = partial(math.isclose, rel_tol=tolerance, abs_tol=tolerance)
    for kind in ("train", "evaluation"):
        for record, other in zip(logged(alone, kind), logged(shared, kind), strict=True):
            for name, value in record.items():
                if isinstance(value, float) and not near(other[name], value):
                    what = f"{kind} step {record['step']}: {name} is {other[name]}, of one process {value}"
                    recipe.fail(f"{what}, with tolerance {tolerance}")
    for name, tensor in weights(shared).items():
        given, wanted = (comparable(name, part).double() for part in (tensor, expected[name]))
        if not torch.allclose(given, wanted, rtol=tolerance, atol=tolerance):
            recipe.fail(f"{name} differs from one process's by {float((given - wanted).abs().max()):.3g}")
