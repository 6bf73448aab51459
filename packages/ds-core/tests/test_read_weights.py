"""The weights in a file by name, of a checkpoint or of another program."""

import pytest
import torch
from ds_core import SGD, CheckpointError, Linear, Module, save_checkpoint
from ds_core.training.checkpoint import read_weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file


class Tied(Module):
    """Two layers that share one weight, which a checkpoint holds once."""

    def __init__(self):
        self.first = Linear(3, 3)
        self.second = Linear(3, 3)
        self.second.weight = self.first.weight


@pytest.fixture
def saved(tmp_path):
    model, path = Tied(), tmp_path / "checkpoint.safetensors"
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    save_checkpoint(path, model=model, optimizer=optimizer, step=3)
    return path, model


def test_of_a_checkpoint(saved):
    path, model = saved
    found, expected = read_weights(path), model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_of_another_program(tmp_path):
    for metadata in ({"format": "pt"}, None):
        save_file({"a.weight": torch.arange(3.0), "n": torch.tensor(4)}, tmp_path / "plain.safetensors", metadata)
        found = read_weights(str(tmp_path / "plain.safetensors"))
        assert found.keys() == {"a.weight", "n"}
        assert torch.equal(found["a.weight"], torch.arange(3.0))
        assert torch.equal(found["n"], torch.tensor(4))


def test_a_damaged_checkpoint_is_no_other_program_s(saved):
    path, _ = saved
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(tensors, path, {**metadata, "format": "ds-checkpoins"})
    with pytest.raises(CheckpointError, match="is no checkpoint of a training run"):
        read_weights(path)
    save_file(tensors, path, {"format": metadata["format"], "version": metadata["version"]})
    with pytest.raises(CheckpointError, match="its JSON cannot be read"):
        read_weights(path)
    tensors["model.first.weight"][0, 0] += 1
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=r"model\.first\.weight does not have the checksum"):
        read_weights(path)


def test_missing_and_cut_off(saved, tmp_path):
    path, _ = saved
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_weights(tmp_path / "none.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="damaged, cut off, or no checkpoint"):
        read_weights(path)
