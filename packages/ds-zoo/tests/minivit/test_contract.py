"""MiniViT is transformers' ViT: outputs, losses, every gradient, the files both ways, ten steps of AdamW."""

import pytest
import torch
import transformers
from ds_core import AdamW, ClassifierOutput, plain, primitives_only, record
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.testing import report
from ds_zoo import MiniViT, MiniViTForImageClassification
from ds_zoo.minivit import MiniViTOutput
from vit_twins import (
    CONFIGS,
    assert_equal_gradients,
    config_of,
    file_of,
    gradients_of,
    images_of,
    named,
    ours_of,
    theirs_of,
    without_key_biases,
)

# The model's own size, an oblong one, a larger square, and pixels beyond the last patch
SCALES = [None, (1, 2), (2, 2), (1.5, 1.3)]


@pytest.fixture(autouse=True)
def _double():
    """transformers' losses build tensors in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def size_of(config, scale):
    return None if scale is None else tuple(max(config.patch_size, round(config.image_size * part)) for part in scale)


def labels_of(config, kind, batch=3):
    generator = torch.Generator().manual_seed(2)
    count = config.num_labels
    if kind == "regression":
        return torch.randn(batch, *([count] if count > 1 else []), generator=generator)
    if kind == "multi-label":
        return torch.rand(batch, count, generator=generator).round()
    classes = torch.randint(count, (batch,), generator=generator)
    if kind == "ignored":
        classes[0] = -100
    return classes


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("fields", [("last_hidden_state",), ("pooler_output",), ("last_hidden_state", "pooler_output")])
@pytest.mark.parametrize("name", CONFIGS)
def test_body(name, fields, scale, tmp_path):
    config = config_of(name, pooler_output_size=5 if name == "pixels" else None)
    theirs = theirs_of("ViTModel", config)
    ours = ours_of(theirs)
    assert isinstance(ours, MiniViT)
    x = images_of(config, size=size_of(config, scale))
    wanted = x.clone().requires_grad_()
    expected = theirs(pixel_values=wanted, interpolate_pos_encoding=scale is not None)
    dys = {field: torch.randn_like(getattr(expected, field)) for field in fields}
    sum((getattr(expected, field) * dy).sum() for field, dy in dys.items()).backward()
    with record():
        output = ours(pixel_values=x, interpolate_pos_encoding=scale is not None)
        dx = ours.backward(MiniViTOutput(**dys))
    for field, tensor in named(output).items():
        torch.testing.assert_close(tensor, getattr(expected, field), rtol=1e-10, atol=1e-10)
    found = {**gradients_of(ours, tmp_path / "ours"), "x": dx}
    assert_equal_gradients(found, {**gradients_of(theirs, tmp_path / "theirs"), "x": wanted.grad})


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", CONFIGS)
def test_classifier_under_random_gradients(name, scale, tmp_path):
    config = config_of(name)
    theirs = theirs_of("ViTForImageClassification", config)
    ours = ours_of(theirs)
    assert isinstance(ours, MiniViTForImageClassification)
    x = images_of(config, size=size_of(config, scale))
    wanted = x.clone().requires_grad_()
    expected = theirs(pixel_values=wanted, interpolate_pos_encoding=scale is not None).logits
    dy = torch.randn_like(expected)
    expected.backward(dy)
    with record():
        output = ours(pixel_values=x, interpolate_pos_encoding=scale is not None)
        dx = ours.backward(ClassifierOutput(logits=dy))
    torch.testing.assert_close(output.logits, expected, rtol=1e-10, atol=1e-10)
    found = {**gradients_of(ours, tmp_path / "ours"), "x": dx}
    assert_equal_gradients(found, {**gradients_of(theirs, tmp_path / "theirs"), "x": wanted.grad})


LOSSES = [
    *[(name, None, "classes") for name in CONFIGS if name != "one-label"],
    ("no-qkv-bias", None, "ignored"),
    ("one-label", None, "regression"),
    ("no-qkv-bias", "regression", "regression"),
    ("seven-layers", None, "multi-label"),
    ("seven-layers", "multi_label_classification", "multi-label"),
    ("smallest", "single_label_classification", "ignored"),
]


@pytest.mark.parametrize(("name", "problem_type", "labels"), LOSSES)
def test_loss_and_every_gradient(name, problem_type, labels, tmp_path):
    config = config_of(name, problem_type=problem_type)
    theirs = theirs_of("ViTForImageClassification", config)
    ours = ours_of(theirs)
    x, targets = images_of(config), labels_of(config, labels)
    expected = theirs(pixel_values=x, labels=targets).loss
    expected.backward()
    with record():
        criterion = ours.criterion()
        loss = criterion(ours(pixel_values=x), labels=targets)
        ours.backward(criterion.backward())
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=1e-10)
    assert_equal_gradients(gradients_of(ours, tmp_path / "ours"), gradients_of(theirs, tmp_path / "theirs"))


def step(model, optimizer, x, targets):
    """One of ours."""
    with record():
        criterion = model.criterion()
        loss = criterion(model(pixel_values=x), labels=targets)
        model.backward(criterion.backward())
    optimizer.step()
    optimizer.zero_grad()
    return loss


def test_ten_steps_of_adamw_follow_transformers(tmp_path):
    config = config_of("no-qkv-bias", qkv_bias=True)
    theirs = theirs_of("ViTForImageClassification", config).train()
    ours = ours_of(theirs)
    options = {"lr": 3e-3, "betas": (0.9, 0.99)}
    # In transformers class token and positions have leading dimensions, so it is by ours that decay goes
    decayed = {"params": [], "weight_decay": 0.1}
    others = {"params": [], "weight_decay": 0.0}
    for tensor in theirs.parameters():
        (decayed if tensor.squeeze().dim() >= 2 else others)["params"].append(tensor)
    our_optimizer = AdamW(decay_groups(ours, 0.1), **options)
    their_optimizer = torch.optim.AdamW([decayed, others], **options)
    for index in range(10):
        x, targets = images_of(config, seed=index), labels_of(config, "classes")
        loss = step(ours, our_optimizer, x, targets)
        expected = theirs(pixel_values=x, labels=targets).loss
        expected.backward()
        their_optimizer.step()
        their_optimizer.zero_grad()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-9, atol=1e-9)
    found, expected = (without_key_biases(file_of(model, tmp_path / "after")) for model in (ours, theirs))
    assert_equal_gradients(found, expected)  # of numbers of any kind


@pytest.mark.parametrize("kind", ["ViTModel", "ViTForImageClassification"])
@pytest.mark.parametrize("name", CONFIGS)
def test_round_trip(name, kind, tmp_path):
    """After training steps, transformers loads what we wrote, without a missing or unexpected key."""
    config = config_of(name)
    theirs = theirs_of(kind, config)
    ours = ours_of(theirs)
    x = images_of(config)
    optimizer = AdamW(ours.parameters(), lr=1e-2)
    if kind == "ViTModel":
        with record():
            output = ours(pixel_values=x)
            ours.backward(
                MiniViTOutput(torch.ones_like(output.last_hidden_state), torch.ones_like(output.pooler_output))
            )
        optimizer.step()
    else:
        targets = labels_of(config, "regression" if config.num_labels == 1 else "classes")
        step(ours, optimizer, x, targets)
    before = file_of(theirs, tmp_path / "theirs")
    written = file_of(ours, tmp_path / "ours")
    again, loading = getattr(transformers, kind).from_pretrained(
        tmp_path / "ours", output_loading_info=True, dtype=torch.float64
    )
    assert not any(loading[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert written.keys() == before.keys()
    assert {name: t.shape for name, t in written.items()} == {name: t.shape for name, t in before.items()}
    assert not all(torch.equal(written[name], before[name]) for name in written)  # it was trained
    read_back = file_of(again, tmp_path / "again")
    assert all(torch.equal(read_back[name], written[name]) for name in written)
    expected = again.eval()(pixel_values=x)
    for field, tensor in named(ours(pixel_values=x)).items():
        torch.testing.assert_close(tensor, getattr(expected, field), rtol=1e-10, atol=1e-10)
    config_again = again.config.to_dict()
    of_classifier = () if kind == "ViTModel" else ("id2label", "problem_type")
    for field in ("num_hidden_layers", "layer_norm_eps", "qkv_bias", *of_classifier):
        assert config_again[field] == config.to_dict()[field]


def test_a_sharded_folder(tmp_path):
    config = config_of("seven-layers")
    theirs = theirs_of("ViTForImageClassification", config)
    theirs.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    ours, x = MiniViT.from_pretrained(tmp_path), images_of(config)
    torch.testing.assert_close(ours(pixel_values=x).logits, theirs(pixel_values=x).logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pooling", ["token", "mean"])
@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
def test_a_whole_step_is_primitive_and_the_plain_pairs_give_the_same(pooling, implementation):
    config = config_of("no-qkv-bias")
    body = ours_of(theirs_of("ViTModel", config, add_pooling_layer=False), implementation=implementation)
    model = MiniViTForImageClassification(body.config, pooling=pooling, vit=body)
    x, targets = images_of(config), torch.tensor([0, 1, 1])

    def gradients():
        with record():
            criterion = model.criterion()
            loss = criterion(model(pixel_values=x), labels=targets)
            dx = model.backward(criterion.backward())
        found = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
        model.zero_grad()
        return {"loss": loss, "x": dx, **found}

    expected = gradients()
    with plain():
        found = gradients()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
    optimizer = AdamW(model.parameters(), lr=1e-3)
    with primitives_only() as ops:
        step(model, optimizer, x, targets)
    assert sum(ops.values()) > 100


@pytest.mark.parametrize("pooling", ["token", "mean"])
@pytest.mark.parametrize("name", ["no-qkv-bias", "one-label", "pixels"])
def test_handwritten_equals_autograd_for_every_parameter(name, pooling):
    config = config_of(name)
    body = ours_of(theirs_of("ViTModel", config, add_pooling_layer=False))
    model = MiniViTForImageClassification(body.config, pooling=pooling, vit=body)
    found = report(model, images_of(config), model.criterion(), torch.tensor([1, 0, 1]))
    assert found.ok, str(found)
    assert len(found.rows) == len(list(model.parameters())) + 1  # and the images


def test_one_batch_is_learned_by_heart():
    config = config_of("seven-layers", sizes=(8, 2, 2, 33))
    for pooling in ("token", "mean"):
        body = ours_of(theirs_of("ViTModel", config, add_pooling_layer=False))
        model = MiniViTForImageClassification(body.config, pooling=pooling, vit=body)
        optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        x, targets = images_of(config, batch=6), torch.tensor([0, 1, 1, 0, 1, 0])
        for _ in range(60):
            loss = step(model, optimizer, x, targets)
        assert float(loss) < 0.01
