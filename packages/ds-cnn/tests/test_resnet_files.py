"""What is refused when a ResNet is read: each in one line, and nothing has been loaded."""

import json
import pickle

import pytest
import safetensors.torch
import torch
from ds_cnn import FrozenBatchNorm2d, ResNet, ResNetBackbone, ResNetConfig, freeze_batch_norm
from ds_cnn.networks.resnet_keys import transformers_key
from ds_core import CheckpointError
from ds_core.errors import WriteError
from ds_core.training.pretrained_files import read_tensors
from torch_resnet import TorchResNet, shake

SIZES = ResNetConfig("bottleneck", (1, 2), (4, 8), 3, 2)


@pytest.fixture
def folder(tmp_path):
    shake(ResNet(SIZES, 3)).save_pretrained(tmp_path)
    return tmp_path


def refused(message, read, *arguments):
    with pytest.raises(CheckpointError, match=message) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value)


def rewrite_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite_weights(path, change):
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "vit"}, "model_type is 'vit'; ResNet reads only 'resnet'"),
        ({"architectures": ["ResNetModel"]}, r"architectures is \['ResNetModel'\]"),
        ({"architectures": ["ResNetBackbone"]}, "architectures"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; ResNet reads only 'relu'"),
        ({"layer_type": "wide"}, "layer_type is 'wide'"),
        ({"depths": [1, 2, 1]}, "3 depths, but 2 hidden_sizes"),
        ({"depths": [1, "2"]}, "depths has '2', expected a whole number"),
        ({"depths": None}, "depths is None"),
        ({"hidden_sizes": [3, 8]}, "hidden_sizes"),
        ({"embedding_size": 0}, "embedding_size has 0"),
        ({"num_channels": 1.5}, "num_channels has 1.5"),
        ({"downsample_in_first_stage": "yes"}, "downsample_in_first_stage is 'yes'"),
        ({"downsample_in_bottleneck": None}, "downsample_in_bottleneck is None"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking', expected one of"),
        ({"id2label": {}}, "id2label is {}, expected a name for each"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label"),
        ({"id2label": None, "num_labels": 0}, "num_labels is 0"),
    ],
)
def test_models_that_resnet_is_not(changes, message, folder):
    rewrite_config(folder, **changes)
    refused(rf"config.json: .*{message}", ResNet.from_pretrained, folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": [1, 3]}, r"lacks resnet.encoder.stages.1.layers.2.layer.0.convolution.weight, .* and 15 more$"),
        ({"depths": [1, 1]}, r"holds resnet.encoder.stages.1.layers.1.\S+, .* and 15 more beyond the model"),
        ({"layer_type": "basic"}, r"holds resnet.encoder.stages.0.layers.0.layer.2.\S+, .* beyond the model"),
        ({"hidden_sizes": [4, 12]}, r"has shape \(2, 4, 1, 1\), expected \(3, 4, 1, 1\)"),
        ({"num_channels": 3}, r"convolution.weight has shape \(3, 2, 7, 7\), expected \(3, 3, 7, 7\)"),
        ({"hidden_sizes": [4, 10**9]}, r"shape \(2, 4, 1, 1\), expected \(250000000, 4, 1, 1\)"),
        ({"depths": [1, 10**9]}, r"its config.json says 1,000,000,001 blocks, but it holds \d+ tensors"),
        ({"id2label": None}, r"classifier.1.weight has shape \(3, 8\), expected \(2, 8\)"),
    ],
)
def test_weights_of_another_model(changes, message, folder):
    rewrite_config(folder, **changes)
    refused(rf"is of another model: .*{message}", ResNet.from_pretrained, folder)


def test_sizes_that_no_memory_holds(folder):
    rewrite_config(folder, layer_type="basic", hidden_sizes=[10**9, 10**9])
    refused(r"config.json: no memory holds a model of these sizes", ResNet.from_pretrained, folder)


def test_a_file_in_place_of_the_folder(folder):
    path = folder / "model.safetensors"
    refused(r"model.safetensors is a file, expected the folder that holds config.json", ResNet.from_pretrained, path)


def test_one_name_too_few_or_too_many(folder):
    path = folder / "model.safetensors"
    rewrite_weights(path, lambda tensors: tensors.pop("classifier.1.bias"))
    refused("another model: it lacks classifier.1.bias$", ResNet.from_pretrained, folder)
    rewrite_weights(path, lambda tensors: tensors.update({"classifier.1.bias": torch.zeros(3), "extra": torch.ones(1)}))
    refused("another model: it holds extra beyond the model", ResNet.from_pretrained, folder)
    rewrite_weights(path, lambda tensors: tensors.pop("extra"))
    name = "resnet.embedder.embedder.normalization.num_batches_tracked"
    rewrite_weights(path, lambda tensors: tensors.pop(name))
    refused(f"lacks {name}$", ResNet.from_pretrained, folder)


def test_numbers_of_another_kind(folder):
    path = folder / "model.safetensors"
    rewrite_weights(path, lambda tensors: tensors.update({"classifier.1.bias": torch.zeros(3, dtype=torch.int64)}))
    refused("classifier.1.bias is in torch.int64", ResNet.from_pretrained, folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(value, folder):
    def spoil(tensors):
        tensors["classifier.1.bias"][1] = value

    rewrite_weights(folder / "model.safetensors", spoil)
    refused("classifier.1.bias holds numbers that are infinite or NaN", ResNet.from_pretrained, folder)


def test_missing_and_damaged_files(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:7], whole[:-5], b"\xff" * 100):
        weights.write_bytes(damaged)
        refused("model.safetensors is not a whole safetensors file", ResNet.from_pretrained, folder)
    weights.write_bytes(whole[:-9] + bytes(byte ^ 1 for byte in whole[-9:]))
    refused(r"model.safetensors is damaged: \S+ does not have the checksum", ResNet.from_pretrained, folder)
    weights.unlink()
    refused(r"no weights: .*model.safetensors does not exist", ResNet.from_pretrained, folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    refused("pytorch_model.bin is a pickle", ResNet.from_pretrained, folder)
    for text in ("{", "[]", "\x00"):
        (folder / "config.json").write_text(text)
        refused(r"cannot read .*config.json", ResNet.from_pretrained, folder)
    (folder / "config.json").unlink()
    refused(r"config.json does not exist", ResNet.from_pretrained, folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {"a": 3}}])
def test_an_index_that_lists_no_files(index, folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused("index.json is damaged: expected a weight_map", ResNet.from_pretrained, folder)


def test_a_shard_that_is_missing(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    refused("one.safetensors does not exist", ResNet.from_pretrained, folder)


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file.txt").write_text("precious")
    with pytest.raises(WriteError, match=r"cannot write a model into .*file.txt") as caught:
        ResNet(SIZES, 3).save_pretrained(tmp_path / "file.txt")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file.txt").read_text() == "precious"


def test_a_failed_write_leaves_what_was_there(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, content):
        raise WriteError("cannot write: no space left on device")

    monkeypatch.setattr("ds_core.training.pretrained_files.write_atomically", full)
    with pytest.raises(WriteError):
        ResNet(SIZES, 3).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_torchvision_there_and_back(tmp_path):
    theirs = shake(TorchResNet(SIZES, 3))
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours = ResNet(SIZES, 3)
    ours.load_torchvision(tmp_path / "theirs.safetensors")
    ours.save_torchvision(tmp_path / "ours.safetensors")
    found = safetensors.torch.load_file(tmp_path / "ours.safetensors")
    assert found.keys() == theirs.state_dict().keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in theirs.state_dict().items())
    theirs.load_state_dict(found)
    x = torch.randn(2, 2, 16, 16)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_torchvision_without_the_head(tmp_path):
    ours = shake(ResNet(SIZES, 1000))
    ours.save_torchvision(tmp_path / "file")
    other = ResNet(SIZES, 5)
    own = other.fc.weight.clone()
    refused(r"fc.weight has shape \(1000, 8\), expected \(5, 8\)", other.load_torchvision, tmp_path / "file")
    other.load_torchvision(tmp_path / "file", head=False)
    backbone = ResNetBackbone(SIZES)
    backbone.load_torchvision(tmp_path / "file")
    for model in (other, backbone):
        assert all(torch.equal(t, ours.state_dict()[n]) for n, t in model.state_dict().items() if "fc" not in n)
    assert torch.equal(other.fc.weight, own)


def test_files_older_than_the_counters(tmp_path):
    """Before 2018 a batch norm counted no batches; a frozen one does not either, and is written with zeros."""
    ours = shake(ResNet(SIZES, 3))
    state = {name: tensor for name, tensor in ours.state_dict().items() if "num_batches" not in name}
    safetensors.torch.save_file(state, tmp_path / "old")
    other = ResNet(SIZES, 3)
    other.bn1.num_batches_tracked.fill_(7)
    other.load_torchvision(tmp_path / "old")
    assert not other.bn1.num_batches_tracked
    frozen = ResNet(SIZES, 3, norm=FrozenBatchNorm2d)
    for name in ("old", "new"):
        ours.save_torchvision(tmp_path / "new")
        frozen.load_torchvision(tmp_path / name)
        assert all(torch.equal(tensor, state[name]) for name, tensor in frozen.state_dict().items())
    frozen.save_torchvision(tmp_path / "frozen")
    assert read_tensors(tmp_path / "frozen").keys() == ours.state_dict().keys()
    frozen.save_pretrained(tmp_path / "folder")
    assert not ResNet.from_pretrained(tmp_path / "folder").network.bn1.num_batches_tracked
    x = torch.randn(2, 2, 16, 16)
    assert torch.equal(freeze_batch_norm(ours)(x), frozen(x))


def test_torchvision_files_that_do_not_fit(tmp_path):
    ours = ResNet(SIZES, 3)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    deeper = ResNet(ResNetConfig("bottleneck", (1, 3), (4, 8), 3, 2), 3)
    deeper.save_torchvision(tmp_path / "deeper")
    refused("deeper is of another model: it holds layer2.2.bn1", ours.load_torchvision, tmp_path / "deeper")
    ours.save_torchvision(tmp_path / "mine")
    refused("mine is of another model: it lacks layer2.2.", deeper.load_torchvision, tmp_path / "mine")
    torch.save(ours.state_dict(), tmp_path / "resnet.pth")
    refused(r"resnet.pth is a pickle .*safetensors.torch.save_file", ours.load_torchvision, tmp_path / "resnet.pth")
    (tmp_path / "resnet.pth").rename(tmp_path / "resnet")
    refused("is not a whole safetensors file", ours.load_torchvision, tmp_path / "resnet")
    refused("no weights: .*nowhere does not exist", ours.load_torchvision, tmp_path / "nowhere")
    refused("is a folder, expected a safetensors file, such as a model.safetensors", ours.load_torchvision, tmp_path)
    ours.save_pretrained(tmp_path / "folder")
    refused("is of another model", ours.load_torchvision, tmp_path / "folder" / "model.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


def test_keys():
    assert transformers_key("bn1.bias") == "resnet.embedder.embedder.normalization.bias"
    assert transformers_key("layer2.0.conv3.weight", "") == "encoder.stages.1.layers.0.layer.2.convolution.weight"
    shortcut = "resnet.encoder.stages.0.layers.10.shortcut.normalization.bias"
    assert transformers_key("layer1.10.downsample.1.bias") == shortcut
    assert transformers_key("fc.weight") == "classifier.1.weight"
    for name in ("layer1.conv1.weight", "head.weight", "conv1"):
        with pytest.raises(KeyError, match="a ResNet has no tensor"):
            transformers_key(name)
