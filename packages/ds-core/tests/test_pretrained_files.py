"""Folders and files of weights as others publish them: there and back, and each fault one line."""

import json
import pickle

import pytest
import safetensors.torch
import torch
from ds_core import CheckpointError, Linear, Sequential
from ds_core.errors import WriteError
from ds_core.training.pretrained_files import (
    check_fixed,
    read_config,
    read_config_as,
    read_folder,
    read_tensors,
    write_folder,
    write_tensors,
)
from ds_core.training.pretrained_weights import Key, by_their_names, fit_tensors, load_model, without_weights

# As if theirs were called otherwise, and its matrices stood the other way round
KEYS = {
    "first.weight": Key("net.h.0.w", transposed=True),
    "first.bias": Key("net.h.0.b"),
    "last.weight": Key("head.weight"),
    "last.bias": Key("head.bias"),
}


def model(inputs=3, device=None):
    return Sequential({"first": Linear(inputs, 4, device=device), "last": Linear(4, 2, device=device)})


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path, {"inputs": 3}, by_their_names(model().state_dict(), KEYS))
    return tmp_path


def refused(message, read, *arguments):
    with pytest.raises(CheckpointError, match=message) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)


def read(folder, inputs=3):
    tensors = read_folder(folder)
    shapes = without_weights(folder, lambda: model(inputs, "meta"), 2, tensors).state_dict()
    return fit_tensors(folder, tensors, shapes, KEYS)


def rewrite(folder, change):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors")


def test_there_and_back(tmp_path):
    ours = model()
    theirs = by_their_names(ours.state_dict(), KEYS)
    assert theirs["net.h.0.w"].shape == (3, 4)
    assert theirs["head.weight"].shape == (2, 4)
    write_folder(tmp_path / "new" / "folder", {"inputs": 3}, theirs)
    assert read_config(tmp_path / "new" / "folder") == {"inputs": 3, "dtype": "float32"}
    found = safetensors.torch.load_file(tmp_path / "new" / "folder" / "model.safetensors")  # as others read it
    assert torch.equal(found["net.h.0.w"], ours.first.weight.t())
    again = read(tmp_path / "new" / "folder")
    assert again.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in ours.state_dict().items())


def test_a_tensor_in_parts_and_with_leading_dimensions():
    joined = torch.arange(12.0).view(6, 2)
    state = {"in_proj_weight": joined, "token": torch.tensor([1.0, 2.0])}
    keys = {"in_proj_weight": Key(("q", "k", "v"), transposed=True), "token": Key("cls", leading=2)}
    theirs = by_their_names(state, keys)
    assert {name: tuple(tensor.shape) for name, tensor in theirs.items()} == {
        **dict.fromkeys("qkv", (2, 2)),
        "cls": (1, 1, 2),
    }
    assert torch.equal(theirs["k"], joined[2:4].t())
    again = fit_tensors("file", theirs, state, keys)
    assert all(torch.equal(tensor, again[name]) for name, tensor in state.items())
    refused(r"it lacks k and holds w beyond the model", fit_tensors, "file", _renamed(theirs, "k", "w"), state, keys)
    misshapen = theirs | {"v": torch.ones(3, 2)}
    refused(r"v has shape \(3, 2\), expected \(2, 2\)", fit_tensors, "file", misshapen, state, keys)
    misshapen = theirs | {"cls": torch.ones(2)}
    refused(r"cls has shape \(2,\), expected \(1, 1, 2\)", fit_tensors, "file", misshapen, state, keys)


def _renamed(tensors, old, new):
    return {new if name == old else name: tensor for name, tensor in tensors.items()}


def test_a_model_is_loaded_without_drawing(folder):
    state = torch.get_rng_state()
    tensors = read_folder(folder)
    loaded = load_model(folder, lambda: model(device="meta"), 2, tensors, lambda names: KEYS, dtype=torch.float64)
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.first.weight.dtype == torch.float64
    assert torch.equal(loaded.first.weight.detach().float(), tensors["net.h.0.w"].t())
    again = load_model(folder, lambda: model(device="meta"), 2, tensors, lambda names: KEYS)
    assert again.first.weight.is_leaf
    assert not any(module.training for module in again.modules())
    halves = {**tensors, "head.weight": tensors["head.weight"].half()}
    for mixed in (halves, dict(reversed(halves.items()))):  # whichever comes first
        found = load_model(folder, lambda: model(device="meta"), 2, mixed, lambda names: KEYS)
        assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}


def test_fields_of_the_config_that_a_model_refuses(folder):
    assert read_config_as(folder, lambda fields: fields["inputs"]) == 3
    fixed = {"inputs": (4, 5), "absent": (True,)}
    refused(
        r"config.json: inputs is 3; Net reads only 4", read_config_as, folder, lambda f: check_fixed("Net", f, fixed)
    )
    check_fixed("Net", {"inputs": 5}, fixed)


def test_names_that_are_ours_need_no_table():
    tensors = model().state_dict()
    assert fit_tensors("file", tensors, tensors).keys() == tensors.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("net.h.0.b"), r"of another model: it lacks net.h.0.b$"),
        (lambda t: t.update(more=torch.ones(1)), r"of another model: it holds more beyond the model$"),
        (
            lambda t: t.update({f"a{i}": torch.ones(1) for i in range(5)}) or t.pop("head.bias"),
            r"lacks head.bias and holds a0, a1, a2 and 2 more beyond the model$",
        ),
        (
            lambda t: t.update({"net.h.0.w": torch.ones(4, 3)}),
            r"net.h.0.w has shape \(4, 3\), expected \(3, 4\)",
        ),
        (lambda t: t.update({"head.bias": torch.ones(2, dtype=torch.int64)}), r"head.bias is in torch.int64"),
        (lambda t: t["head.bias"][1:].fill_(float("nan")), r"head.bias holds numbers that are infinite or NaN"),
        (lambda t: t["net.h.0.w"][1, 2].fill_(float("inf")), r"net.h.0.w holds numbers that are infinite or NaN"),
        (lambda t: t["net.h.0.w"][0, 0].fill_(float("-inf")), r"net.h.0.w holds numbers that are infinite or NaN"),
    ],
)
def test_weights_that_do_not_fit(change, message, folder):
    rewrite(folder, change)
    refused(message, read, folder)


def test_sizes_of_the_config_that_are_too_large(folder):
    refused(r"net.h.0.w has shape \(3, 4\), expected \(1000000000, 4\)", read, folder, 10**9)
    refused(r"config.json: no memory holds a model of these sizes", read, folder, 2**62)
    message = r"is of another model: its config.json says 1,000,000 blocks, but it holds 4 tensors"
    refused(message, without_weights, folder, model, 10**6, read_folder(folder))


def test_shards(folder):
    whole = read_folder(folder)
    (folder / "model.safetensors").unlink()
    names = {}
    for number, name in enumerate(whole):
        write_tensors(folder / f"{number}.safetensors", {name: whole[name]})
        names[name] = f"{number}.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    found = read_folder(folder)
    assert found.keys() == whole.keys()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in found.items())
    (folder / "2.safetensors").unlink()
    refused(r"no weights: .*2.safetensors does not exist", read_folder, folder)
    for index in ({}, {"weight_map": []}, {"weight_map": {"a": 3}}):
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        refused("index.json is damaged: expected a weight_map", read_folder, folder)


def test_missing_and_damaged_files(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:7], whole[:-5], b"\xff" * 100):
        weights.write_bytes(damaged)
        refused("model.safetensors is not a whole safetensors file", read_folder, folder)
    weights.write_bytes(whole[:-9] + bytes(byte ^ 1 for byte in whole[-9:]))
    refused(r"model.safetensors is damaged: \S+ does not have the checksum", read_folder, folder)
    weights.unlink()
    refused(r"no weights: .*model.safetensors does not exist", read_folder, folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    refused("pytorch_model.bin is a pickle, .* save the model anew", read_folder, folder)
    for text in ("{", "[]", "\x00"):
        (folder / "config.json").write_text(text)
        refused(r"cannot read .*config.json", read_config, folder)
    (folder / "config.json").unlink()
    refused(r"no model in .*: config.json does not exist", read_config, folder)


def test_files_for_folders_and_folders_for_files(folder):
    refused("is a file, expected the folder that holds config.json", read_config, folder / "model.safetensors")
    refused("is a folder, expected a safetensors file, such as a model.safetensors in it", read_tensors, folder)
    refused("model.pth is a pickle by its name, .* convert it once", read_tensors, folder / "model.pth")


def test_checksums_that_are_none(tmp_path):
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "file.safetensors", metadata={"crc32": "[1"})
    refused("its checksums cannot be read", read_tensors, tmp_path / "file.safetensors")


def test_files_are_the_same_each_time(tmp_path):
    tensors = model().state_dict()
    for name in ("one", "other"):
        write_tensors(tmp_path / name, tensors)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_failed_write_leaves_what_was_there(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, content):
        raise WriteError("cannot write: no space left on device")

    monkeypatch.setattr("ds_core.training.pretrained_files.write_atomically", full)
    with pytest.raises(WriteError):
        write_folder(folder, {}, model().state_dict())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file.txt").write_text("precious")
    with pytest.raises(WriteError, match=r"cannot write a model into .*file.txt"):
        write_folder(tmp_path / "file.txt", {}, {})
    assert (tmp_path / "file.txt").read_text() == "precious"
