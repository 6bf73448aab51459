"""Weights as a safetensors file: equal weights, equal bytes."""

import json
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

# A header is padded with spaces so that the numbers after it are aligned
_ALIGNMENT = 8


def weights_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """What a file holds with these tensors and this metadata, whose names stand in alphabetical order.

    The library that writes it puts the names of the metadata in another order each time.
    """
    written = save(dict(tensors), dict(metadata or {}))
    end = 8 + int.from_bytes(written[:8], "little")
    header = json.loads(written[8:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + written[end:]
