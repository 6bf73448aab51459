"""The state of every shared random generator: PyTorch's (CPU and CUDA), Python's and NumPy's."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """The state of all generators, as nested dicts of tensors, numbers and strings.

    CUDA's are there where CUDA has been used in this process.
    """
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": _cuda_states(),
        "python": {"version": version, "internal": torch.tensor(internal), "gauss": gauss},
        "numpy": _tensors(np.random.get_state(legacy=False)),
    }


def restore_random_state(state: Mapping[str, Any]) -> list[str]:
    """Set all generators as `random_state` found them.

    Returns:
        Notes, one for each state that could not be restored (CUDA devices that are not here).
    """
    torch.set_rng_state(state["torch"])
    python = state["python"]
    random.setstate((python["version"], tuple(python["internal"].tolist()), python["gauss"]))
    np.random.set_state(_arrays(state["numpy"]))
    devices = torch.cuda.device_count() if state["cuda"] else 0
    for index, cuda in enumerate(state["cuda"][:devices]):
        torch.cuda.set_rng_state(cuda, index)
    missing = len(state["cuda"]) - devices
    if missing <= 0:
        return []
    return [f"the random states of {missing} CUDA device(s) could not be restored: they are not here"]


def torch_random_state() -> list[torch.Tensor]:
    """PyTorch's generators alone, cheap enough for every step: what layers draw from."""
    return [torch.get_rng_state(), *_cuda_states()]


def restore_torch_random_state(state: list[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state_all(state[1:])


def seed_for_rank(rank: int, step: int = 0) -> None:
    """Seed PyTorch's generators, so that process `rank` draws other dropout masks than the others.

    The seed is a function of `rank`, `step` and the present one, which `torch.manual_seed` has set on all of them.
    Python's and NumPy's generators stay: callbacks draw from them, and are to do the same on all processes.
    """
    key = np.random.SeedSequence((torch.initial_seed() % 2**64, rank, step)).generate_state(1, np.uint64)
    torch.manual_seed(int(key[0]))


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Whatever is drawn inside, the generators go on as if nothing had been."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def _tensors(value: Any) -> Any:
    """NumPy's state with its array as a tensor; its big integers stay Python's."""
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    return torch.from_numpy(value.astype(np.int64)) if isinstance(value, np.ndarray) else value


def _arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _arrays(item) for key, item in value.items()}
    return np.asarray(value).astype(np.uint32) if isinstance(value, torch.Tensor) else value


def _cuda_states() -> list[torch.Tensor]:
    """Of the devices of this process, where it has used any: asking would otherwise start CUDA."""
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
