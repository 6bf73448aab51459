"""A run is resumed with the data it began with, or not at all."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ds_core.errors import CheckpointError
from ds_core.training.callbacks import Callback


class SameData(Callback):
    """Keeps a digest of the data in the checkpoint, and refuses to resume a run with other data.

        digest = hashlib.sha256(text.encode()).hexdigest()
        trainer = Trainer(model, ..., callbacks=[SameData(digest, "the text my.txt")])

    Args:
        digest: of everything that training sees.
        data: what it is a digest of, for the message.
    """

    def __init__(self, digest: str, data: str) -> None:
        self.digest = digest
        self.data = data

    def state_dict(self) -> dict[str, Any]:
        return {"digest": self.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises `CheckpointError` if the digests differ."""
        if state.get("digest") != self.digest:
            raise CheckpointError(f"cannot resume with {self.data}: the run began with other data")


def digest_of(*tensors: Tensor) -> str:
    """The SHA-256 digest of the numbers in `tensors`."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
