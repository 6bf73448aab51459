"""Equal weights, equal bytes."""

import pytest
import torch
from ds_core.training.weights_file import weights_bytes
from safetensors import safe_open
from safetensors.torch import load, save


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {f"key {n}": f'ä"\\n{n}' for n in range(12)}])
def test_equal_weights_equal_bytes(tmp_path, metadata):
    tensors = {"b": torch.arange(5.0), "a.ü": torch.ones(2, 3, dtype=torch.float64), "c": torch.tensor([True])}
    written = weights_bytes(tensors, metadata)
    for _ in range(20):  # the library alone puts a dozen names in the same order once in 479 million times
        assert weights_bytes(dict(reversed(tensors.items())), dict(reversed((metadata or {}).items()))) == written
    for name, tensor in load(written).items():
        torch.testing.assert_close(tensor, tensors[name], rtol=0, atol=0)
    (tmp_path / "a.safetensors").write_bytes(written)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert (file.metadata() or {}) == (metadata or {})
    assert int.from_bytes(written[:8], "little") % 8 == 0
    assert len(written) == len(save(tensors, metadata or {}))
