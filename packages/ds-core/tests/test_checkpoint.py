"""Checkpoints: everything comes back, and nothing that is damaged or foreign gets in."""

import json
import os
import zlib

import ds_core.training.checkpoint
import pytest
import torch
from ds_core import (
    CheckpointError,
    CrossEntropyLoss,
    Linear,
    Module,
    Sequential,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from ds_core.errors import WriteError
from ds_core.training.checkpoint import describe_checkpoint
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file


class Tied(Module):
    """Two layers that share one weight, and a buffer that is a view of another."""

    def __init__(self, width=3):
        self.first = Linear(width, width)
        self.second = Linear(width, width)
        self.second.weight = self.first.weight
        self.counts = torch.arange(4.0)
        self.half = self.counts[:2]

    def forward(self, x):
        return self.second(self.first(x))


def trained(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    for _ in range(3):
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return optimizer, schedule


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = Tied()
    optimizer, schedule = trained(model)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, model=model, optimizer=optimizer, schedule=schedule, step=3, extra={"best": [1.5, None]})
    return path, model, optimizer, schedule


def edit(path, change_metadata=lambda metadata: None, change_tensors=lambda tensors: None):
    """Write the file again with changes, as somebody else's program would."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change_metadata(metadata)
    change_tensors(tensors)
    save_file(tensors, path, metadata)


def unchanged(model, action):
    """Run `action`, which must raise CheckpointError in one line; nothing may have changed."""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    with pytest.raises(CheckpointError) as error:
        action()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert "\n" not in str(error.value)
    assert error.value.exit_status == 1
    return str(error.value)


def test_everything_comes_back(saved):
    path, model, optimizer, schedule = saved
    expected = torch.rand(3)
    other = Tied()
    other_optimizer, other_schedule = trained(other)
    found = load_checkpoint(path, model=other, optimizer=other_optimizer, schedule=other_schedule)
    assert (found.step, found.extra, found.notes) == (3, {"best": [1.5, None]}, [])
    assert torch.equal(torch.rand(3), expected)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert other.second.weight is other.first.weight
    assert other_schedule.state_dict() == schedule.state_dict()
    assert other_optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert other_optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    for mine, theirs in zip(optimizer.state.values(), other_optimizer.state.values(), strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_tied_weights_are_written_once_and_the_file_is_plain_safetensors(saved):
    path = saved[0]
    names = set(load_file(path))
    assert "model.first.weight" in names
    assert "model.second.weight" not in names
    assert {"model.counts", "model.half"} <= names  # overlapping, but not the same
    assert os.listdir(path.parent) == [path.name]


def test_number_of_threads_is_restored(saved):
    path, model, *_ = saved
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        found = load_checkpoint(path, model=model)
        assert torch.get_num_threads() == before
        assert found.notes == [f"{before} threads, as when the run began (there were {before + 1})"]
    finally:
        torch.set_num_threads(before)


def test_another_torch_version_is_noted(saved, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "9.9.0")
    (note,) = load_checkpoint(saved[0], model=saved[1]).notes
    assert "this is 9.9.0" in note


def test_weights_alone(saved):
    path, model, *_ = saved
    other = Tied().double()
    state = torch.get_rng_state()
    assert load_weights(path, other) == 3
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(other.first.weight, model.first.weight.double())


def test_description(saved):
    found = describe_checkpoint(saved[0])
    assert (found.step, found.extra) == (3, {"best": [1.5, None]})


def test_description_of_state_that_shares_memory_with_the_model(tmp_path):
    model = Tied()
    path = tmp_path / "checkpoint.safetensors"
    weight = model.first.weight.detach()
    extra = {"callbacks": [{"state": {"shadow": (weight, {3: weight[:1]})}}], "own": torch.ones(2)}
    save_checkpoint(path, model=model, step=3, extra=extra)
    assert "extra.callbacks.0.state.shadow.0" not in load_file(path)
    for found in (describe_checkpoint(path), load_checkpoint(path, model=model)):
        shadow = found.extra["callbacks"][0]["state"]["shadow"]
        assert torch.equal(shadow[0], weight)
        assert torch.equal(shadow[1][3], weight[:1])
        assert found.extra["own"].tolist() == [1, 1]


def test_missing(saved, tmp_path):
    assert "there is no such file" in unchanged(saved[1], lambda: load_checkpoint(tmp_path / "no", model=saved[1]))


@pytest.mark.parametrize("size", [0, 5, 200, -1, -1000])
def test_cut_off(saved, size):
    path, model, *_ = saved
    content = path.read_bytes()
    path.write_bytes(content[:size])
    assert "damaged, cut off, or no checkpoint" in unchanged(model, lambda: load_checkpoint(path, model=model))


@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_one_wrong_bit_anywhere(saved, place):
    path, model, *_ = saved
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)
    unchanged(model, lambda: load_checkpoint(path, model=model))


def test_swapped_tensors(saved):
    path, model, *_ = saved

    def swap(tensors):
        first, second = "model.first.bias", "model.second.bias"
        tensors[first], tensors[second] = tensors[second], tensors[first]

    edit(path, change_tensors=swap)
    assert "checksum" in unchanged(model, lambda: load_checkpoint(path, model=model))


def test_missing_tensor(saved):
    path, model, *_ = saved
    edit(path, change_tensors=lambda tensors: tensors.pop("model.first.bias"))
    assert "its tensors are not those it names" in unchanged(model, lambda: load_checkpoint(path, model=model))


@pytest.mark.parametrize("text", ["{", "[]", '{"step": 1}', "null"])
def test_corrupt_json(saved, text):
    path, model, *_ = saved

    def change(metadata):
        metadata.update(state=text, checksum=str(zlib.crc32(text.encode())))

    edit(path, change)
    assert "damaged: its JSON" in unchanged(model, lambda: load_checkpoint(path, model=model))


def test_json_changed_by_hand(saved):
    path, model, *_ = saved
    edit(path, lambda metadata: metadata.update(state=metadata["state"].replace('"step": 3', '"step": 4')))
    assert "checksum" in unchanged(model, lambda: load_checkpoint(path, model=model))


def test_newer_format(saved):
    path, model, *_ = saved
    edit(path, lambda metadata: metadata.update(version="2"))
    assert "written by a newer version: format 2" in unchanged(model, lambda: load_checkpoint(path, model=model))
    edit(path, lambda metadata: metadata.update(version="two"))
    assert "format version 'two'" in unchanged(model, lambda: load_checkpoint(path, model=model))


def test_foreign_files(tmp_path):
    model = Linear(2, 2)
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.ones(2, 2)}, path, {"format": "pt"})
    assert "no checkpoint of a training run" in unchanged(model, lambda: load_checkpoint(path, model=model))
    torch.save({"weight": torch.ones(2, 2)}, path)
    assert "no checkpoint" in unchanged(model, lambda: load_checkpoint(path, model=model))
    path.write_text("hello, I am a text")
    assert "no checkpoint" in unchanged(model, lambda: load_checkpoint(path, model=model))
    assert "no such file" in unchanged(model, lambda: load_checkpoint(tmp_path, model=model))


def test_another_model_names_the_first_differences(saved):
    message = unchanged(model := Tied(4), lambda: load_checkpoint(saved[0], model=model))
    assert "first.weight has shape (3, 3), in the model (4, 4)" in message
    assert "and 1 more differences" in message
    message = unchanged(model := Sequential(Linear(3, 3)), lambda: load_weights(saved[0], model))
    assert "0.weight is not in the file" in message
    message = unchanged(model := Tied().double(), lambda: load_checkpoint(saved[0], model=model))
    assert "has dtype torch.float32, in the model torch.float64" in message


def test_another_optimizer_or_schedule(saved):
    path, model, optimizer, _ = saved
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    message = unchanged(model, lambda: load_checkpoint(path, model=model, optimizer=sgd))
    assert message.endswith("has AdamW as optimizer, this run SGD")
    exponential = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    message = unchanged(model, lambda: load_checkpoint(path, model=model, schedule=exponential))
    assert message.endswith("has StepLR as schedule, this run ExponentialLR")
    groups = torch.optim.AdamW([{"params": [tensor]} for tensor in model.parameters()])
    message = unchanged(model, lambda: load_checkpoint(path, model=model, optimizer=groups))
    assert "is of another optimizer" in message


@pytest.mark.parametrize(
    "fault", [SafetensorError("I/O error: No space left on device (os error 28)"), OSError(28, "x")]
)
def test_full_disk_keeps_the_previous_checkpoint(saved, monkeypatch, fault):
    path, model, *_ = saved
    before = path.read_bytes()

    def full(tensors, temporary, metadata):
        temporary.write_bytes(b"half")
        raise fault

    monkeypatch.setattr(ds_core.training.checkpoint, "save_file", full)
    with pytest.raises(WriteError, match="what it held before is still there") as error:
        save_checkpoint(path, model=model, step=4)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_what_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"extra\.callbacks\.0: a function"):
        save_checkpoint(tmp_path / "c", model=Linear(1, 1), extra={"callbacks": [lambda: 0]})
    assert os.listdir(tmp_path) == []


def test_no_pickle_anywhere(saved):
    with safe_open(saved[0], framework="pt") as file:
        state = json.loads(file.metadata()["state"])
    assert state["step"] == 3
    assert state["classes"] == {"optimizer": "AdamW", "schedule": "StepLR"}


def test_another_criterion_leaves_the_optimizer_as_it_was(tmp_path):
    model, criterion = Linear(2, 3), CrossEntropyLoss(torch.ones(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, model=model, optimizer=optimizer, criterion=criterion, step=1)
    other = torch.optim.AdamW(model.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match="is of another criterion"):
        load_checkpoint(path, model=model, optimizer=other, criterion=CrossEntropyLoss(torch.ones(4)))
    assert other.param_groups[0]["lr"] == 0.1


def test_what_a_model_has_no_use_for_is_passed_over(tmp_path):
    """A language model keeps its carried state in training, and one that only writes has none."""

    class Writer(Module):
        unused_state = ("carried",)

        def __init__(self, carried=None):
            self.scale = torch.ones(2)
            if carried is not None:
                self.carried = carried

    save_checkpoint(tmp_path / "trained.safetensors", model=Writer(torch.zeros(3)), step=5)
    writer = Writer()
    writer.scale.zero_()
    assert load_weights(tmp_path / "trained.safetensors", writer) == 5
    assert writer.scale.tolist() == [1, 1]
    save_checkpoint(tmp_path / "writer.safetensors", model=writer, step=5)
    with pytest.raises(CheckpointError, match="carried is not in the file"):
        load_weights(tmp_path / "writer.safetensors", Writer(torch.zeros(3)))
