"""The contract with transformers: random weights of its ResNetForImageClassification, read, run, trained, written."""

import pytest
import safetensors.torch
import torch
import transformers
from ds_cnn import ResNet, ResNetConfig, ResNetForImageClassification
from ds_core import Adam, ClassifierOutput, no_record, primitives_only, record
from ds_core.training.pretrained_labels import Labels
from torch_resnet import shake

CONFIGS = {
    "basic": {"layer_type": "basic", "depths": [1, 2, 1, 1], "hidden_sizes": [4, 6, 5, 8], "embedding_size": 3},
    "basic, first stage halves": {
        "layer_type": "basic",
        "depths": [2, 1],
        "hidden_sizes": [4, 4],
        "embedding_size": 4,
        "downsample_in_first_stage": True,
        "num_channels": 1,
        "num_labels": 1,
    },
    "bottleneck": {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 12, 9, 16], "embedding_size": 5, "num_labels": 5},
    "bottleneck, stride first": {
        "depths": [1, 2, 1],
        "hidden_sizes": [8, 8, 12],
        "embedding_size": 8,
        "downsample_in_bottleneck": True,
        "downsample_in_first_stage": True,
        "num_labels": 3,
    },
}


def their_model(name, **changes):
    torch.manual_seed(len(name))
    config = transformers.ResNetConfig(**(CONFIGS[name] | changes))
    model = transformers.ResNetForImageClassification(config)
    return shake(model).double()


def images(model, count=3, size=32):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, model.config.num_channels, size, size + 4, dtype=torch.float64, generator=generator)


def labels_for(model, count=3):
    if model.config.num_labels == 1:
        return torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)[:count]
    return torch.tensor([1, -100, 0])[:count]


def same(found, expected, rtol=1e-8):
    torch.testing.assert_close(found, expected, rtol=0, atol=rtol * max(1e-5, float(expected.abs().max())))


def gradients_as_files(ours, theirs, tmp_path):
    """Both models with gradients in the place of weights, written by each one's own `save_pretrained`."""
    found = []
    for name, model in (("ours", ours), ("theirs", theirs)):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.data.copy_(parameter.grad)
        model.save_pretrained(tmp_path / name)
        found.append(safetensors.torch.load_file(tmp_path / name / "model.safetensors"))
    return found


def same_files(mine, other):
    assert mine.keys() == other.keys()
    largest = max(float(tensor.abs().max()) for name, tensor in other.items() if "running" not in name)
    for name, expected in other.items():
        assert (mine[name].dtype, mine[name].shape) == (expected.dtype, expected.shape), name
        if "num_batches" in name:
            assert torch.equal(mine[name], expected), name
        else:
            atol = 1e-8 * max(float(expected.abs().max()), 1e-5 * largest)
            torch.testing.assert_close(mine[name], expected, rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_loss_gradients_and_statistics(name, mode, tmp_path):
    theirs = their_model(name).train(mode)
    theirs.save_pretrained(tmp_path / "model")
    ours = ResNet.from_pretrained(tmp_path / "model").train(mode)
    assert all(parameter.requires_grad for parameter in ours.parameters())
    x, labels = images(theirs), labels_for(theirs)
    leaf = x.clone().requires_grad_()
    expected = theirs(pixel_values=leaf, labels=labels)
    expected.loss.backward()
    with record(), primitives_only():
        out = ours(pixel_values=x)
        criterion = ours.criterion()
        loss = criterion(out, labels=labels)
        dx = ours.backward(criterion.backward())
    same(out.logits, expected.logits.detach())
    same(loss, expected.loss.detach())
    same(dx, leaf.grad)
    same_files(*gradients_as_files(ours, theirs, tmp_path))  # running statistics and counters among them


@pytest.mark.parametrize("name", ["basic", "bottleneck"])
def test_random_gradients_of_the_logits(name, tmp_path):
    theirs = their_model(name).train()
    theirs.save_pretrained(tmp_path / "model")
    ours = ResNet.from_pretrained(tmp_path / "model").train()
    x = images(theirs)
    logits = theirs(x).logits
    dlogits = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.backward(dlogits)
    with record():
        ours(x)
        ours.backward(ClassifierOutput(logits=dlogits), input_gradient=False)
    same_files(*gradients_as_files(ours, theirs, tmp_path))


@pytest.mark.parametrize("gradients", [None, ClassifierOutput()])
def test_no_gradient_means_zeros(gradients, tmp_path):
    their_model("basic").save_pretrained(tmp_path)
    ours = ResNet.from_pretrained(tmp_path)
    with record():
        ours(images(their_model("basic")))
        assert ours.backward(gradients) is None
    assert all(parameter.grad is None for parameter in ours.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_round_trip_after_training(name, tmp_path):
    """Three steps of ours, written; transformers reads every key and computes the same, and the other way."""
    theirs = their_model(name)
    theirs.save_pretrained(tmp_path / "first")
    ours = ResNet.from_pretrained(tmp_path / "first").train()
    x, labels = images(theirs), labels_for(theirs)
    optimizer, criterion = Adam(ours.parameters(), lr=1e-3), ours.criterion()
    for _ in range(3):
        optimizer.zero_grad()
        with record():
            criterion(ours(pixel_values=x), labels=labels)
            ours.backward(criterion.backward(), input_gradient=False)
        optimizer.step()
    ours.save_pretrained(tmp_path / "second")
    again, report = transformers.ResNetForImageClassification.from_pretrained(
        tmp_path / "second", dtype=torch.float64, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    files = [safetensors.torch.load_file(tmp_path / part / "model.safetensors") for part in ("first", "second")]
    assert {n: (t.shape, t.dtype) for n, t in files[0].items()} == {n: (t.shape, t.dtype) for n, t in files[1].items()}
    assert {int(tensor) for n, tensor in files[1].items() if "num_batches" in n} == {3}
    for key in ("layer_type", "depths", "hidden_sizes", "num_labels", "problem_type"):
        assert getattr(again.config, key) == getattr(theirs.config, key)
    with no_record():
        out = ours.eval()(pixel_values=x)
        loss = criterion(out, labels=labels)
        expected = again.eval()(pixel_values=x, labels=labels)
    same(out.logits, expected.logits)
    same(loss, expected.loss)
    again.save_pretrained(tmp_path / "third")
    third = ResNet.from_pretrained(tmp_path / "third")
    assert third.network.config == ours.network.config
    assert third.labels.names == ours.labels.names  # their loss writes down the problem type that it found
    state = ours.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in third.state_dict().items())


def test_the_published_models():
    """ResNet-18's and -50's names and shapes, both tables, without making the weights."""
    for config in (
        {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
        {"depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]},
    ):
        with torch.device("meta"):
            theirs = transformers.ResNetForImageClassification(transformers.ResNetConfig(**config, num_labels=1000))
        sizes = {name: tuple(size) if isinstance(size, list) else size for name, size in config.items()}
        network = ResNet(ResNetConfig(**sizes), device="meta")
        tensors = ResNetForImageClassification(network).tensors()
        assert {n: t.shape for n, t in tensors.items()} == {n: t.shape for n, t in theirs.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype(dtype, tmp_path):
    theirs = their_model("bottleneck").to(dtype)
    theirs.save_pretrained(tmp_path)
    ours = ResNet.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in ours.parameters()} == {dtype}
    assert ours.network.bn1.num_batches_tracked.dtype == torch.int64
    with no_record():
        x = images(theirs).to(dtype)
        torch.testing.assert_close(ours.eval()(x).logits, theirs.eval()(x).logits, rtol=0.05, atol=0.05)
    assert ResNet.from_pretrained(tmp_path, dtype=torch.float64).network.fc.weight.dtype == torch.float64


def test_nothing_is_drawn(tmp_path):
    their_model("basic").save_pretrained(tmp_path)
    before = torch.get_rng_state()
    ResNet.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_shards(tmp_path):
    theirs = their_model("bottleneck").eval()
    theirs.save_pretrained(tmp_path, max_shard_size="5KB")
    assert not (tmp_path / "model.safetensors").exists()
    with no_record():
        x = images(theirs)
        same(ResNet.from_pretrained(tmp_path).eval()(x).logits, theirs(x).logits)


def test_names_of_the_classes_survive(tmp_path):
    names = {0: "cat", 1: "dog", 2: "horse"}
    theirs = their_model("basic", id2label=names, label2id={name: number for number, name in names.items()})
    theirs.save_pretrained(tmp_path / "theirs")
    ours = ResNet.from_pretrained(tmp_path / "theirs")
    assert ours.labels == Labels(("cat", "dog", "horse"))
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "ours")
    assert again.config.id2label == names
    assert again.config.label2id == {"cat": 0, "dog": 1, "horse": 2}


def test_a_network_of_ones_own(tmp_path):
    """Two classes, which config.json does not name in transformers, and a network that never was theirs."""
    network = shake(ResNet(ResNetConfig("basic", (1, 1), (3, 4), 2), 2)).double().eval()
    network.save_pretrained(tmp_path)
    theirs = transformers.ResNetForImageClassification.from_pretrained(tmp_path, dtype=torch.float64).eval()
    with no_record():
        x = images(theirs)
        same(network(x), theirs(x).logits)


@pytest.mark.parametrize(
    ("name", "changes", "labels"),
    [
        ("basic", {"problem_type": "multi_label_classification"}, torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])),
        ("basic", {}, torch.tensor([[0.25, 1.0], [1.0, 1.0], [0.0, 0.0]])),
        ("basic", {"problem_type": "regression"}, torch.tensor([[0.5, -1.0], [2.0, 0.0], [1.0, 1.0]])),
        ("basic", {"problem_type": "single_label_classification"}, torch.tensor([1, 0, -100])),
        ("basic, first stage halves", {}, torch.tensor([[0.5], [1.0], [-2.0]])),
        ("bottleneck", {}, torch.tensor([-100, -100, -100])),
    ],
)
def test_every_loss(name, changes, labels, tmp_path):
    theirs = their_model(name, **changes).eval()
    theirs.save_pretrained(tmp_path)
    ours = ResNet.from_pretrained(tmp_path).eval()
    x = images(theirs)
    labels = labels.double() if labels.is_floating_point() else labels
    logits = theirs(x).logits
    leaf = logits.detach().requires_grad_()
    expected = theirs.loss_function(labels, leaf, theirs.config)
    expected.backward()
    with record():
        out = ours(pixel_values=x)
        criterion = ours.criterion()
        loss = criterion(out, labels)
        gradients = criterion.backward()
        ours.backward(gradients)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-9, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(gradients.logits, leaf.grad, rtol=1e-8, atol=1e-12, equal_nan=True)
