import json
import shutil

import pytest
import safetensors.torch
import torch
import transformers
from ds_core import AdamW, CheckpointError, ClassifierOutput, record
from ds_core.errors import WriteError
from ds_zoo import MiniViT, MiniViTConfig, MiniViTForImageClassification
from ds_zoo.finetuning import add_lora
from ds_zoo.minivit import Labels
from ds_zoo.minivit.config import from_hugging_face, to_hugging_face
from ds_zoo.minivit.pretrained import key_of
from ds_zoo.vision.image_tokens import resize_positions
from vit_twins import config_of, file_of, images_of, ours_of, theirs_of

_CLASSIFIER = "ViTForImageClassification"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folders of a body with a pooler and of a classifier, as transformers writes them."""
    root = tmp_path_factory.mktemp("written")
    for kind in ("ViTModel", _CLASSIFIER):
        theirs_of(kind, config_of("no-qkv-bias")).save_pretrained(root / kind)
    return root


@pytest.fixture
def folder(written, tmp_path):
    """A copy of the classifier's, to be damaged."""
    return shutil.copytree(written / _CLASSIFIER, tmp_path / "folder")


def change_config(folder, **fields):
    path = folder / "config.json"
    given = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in given.items() if value != "absent"}))


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)


def test_the_key_table():
    assert key_of("vit.blocks.11.attention.in_proj_bias").names == tuple(
        f"vit.encoder.layer.11.attention.attention.{part}.bias" for part in ("query", "key", "value")
    )
    assert key_of("blocks.0.feed_forward.linear2.weight").names == ("encoder.layer.0.output.dense.weight",)
    assert key_of("tokens.class_token").leading == 2
    assert key_of("classifier.weight").names == ("classifier.weight",)


def test_config_both_ways():
    config = MiniViTConfig(13, 4, 2, 3, 3, 12, 20, 0.1, 0.2, 1e-6, False, 5, 0.05)
    assert from_hugging_face(to_hugging_face(config)) == config
    theirs = transformers.ViTConfig(**to_hugging_face(config))
    assert from_hugging_face(theirs.to_dict()) == config
    assert from_hugging_face({}) == MiniViTConfig()
    assert from_hugging_face(transformers.ViTConfig().to_dict()) == MiniViTConfig(pooler_dim=768)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"embed_dim": 10, "num_heads": 4}, ValueError, "4 heads do not divide an embed_dim of 10"),
        ({"image_size": 8}, ValueError, "no patch of 16 pixels fits into an image of 8"),
        ({"num_layers": 0}, ValueError, "num_layers"),
        ({"hidden_dim": 2.5}, TypeError, "hidden_dim"),
        ({"pooler_dim": 0}, ValueError, "pooler_dim"),
        ({"dropout": 1.5}, ValueError, "dropout"),
        ({"epsilon": 0.0}, ValueError, "epsilon"),
        ({"initializer_range": -1.0}, ValueError, "initializer_range"),
        ({"qkv_bias": 1}, TypeError, "qkv_bias"),
    ],
)
def test_impossible_sizes(changes, error, message):
    with pytest.raises(error, match=message):
        MiniViTConfig(**changes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "deit"}, "model_type is 'deit'"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
        ({"pooler_act": "relu"}, "pooler_act is 'relu'"),
        ({"image_size": [13, 13]}, "image_size is"),
        ({"patch_size": [4, 2]}, "patch_size is"),
        ({"head_dim": 7}, "head_dim is 7"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "architectures names 'ViTForMaskedImageModeling'"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking'"),
        ({"num_attention_heads": 5}, "5 heads do not divide"),
        ({"hidden_size": 10**9, "intermediate_size": 10**9, "num_attention_heads": 1}, "of another model|no memory"),
        ({"num_hidden_layers": 10**6}, "1,000,000 blocks"),
        ({"num_hidden_layers": 2}, r"beyond the model"),
        ({"num_hidden_layers": 4}, r"lacks vit\.encoder\.layer\.3"),
        ({"image_size": 17}, r"position_embeddings has shape \(1, 10, 12\), expected \(1, 17, 12\)"),
        ({"qkv_bias": True}, r"lacks .*query\.bias"),
        ({"architectures": ["ViTModel"]}, "is of another model: it lacks embeddings"),
    ],
)
def test_what_is_not_read(folder, fields, message):
    change_config(folder, **fields)
    with pytest.raises(CheckpointError, match=message) as error:
        MiniViT.from_pretrained(folder)
    assert str(folder) in str(error.value)


def test_damaged_files(folder):
    with pytest.raises(CheckpointError, match="no model"):
        MiniViT.from_pretrained(folder / "nowhere")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-20])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        MiniViT.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(whole)
    change_tensors(folder, lambda tensors: tensors["classifier.bias"].fill_(float("nan")))
    with pytest.raises(CheckpointError, match="infinite or NaN"):
        MiniViT.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        MiniViT.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read"):
        MiniViT.from_pretrained(folder)


def test_several_missing_and_left_over_keys_are_listed(folder):
    def change(tensors):
        for name in ("classifier.weight", "vit.layernorm.bias"):
            tensors["their." + name] = tensors.pop(name)

    change_tensors(folder, change)
    with pytest.raises(CheckpointError) as error:
        MiniViT.from_pretrained(folder)
    for name in ("classifier.weight", "vit.layernorm.bias", "their.classifier.weight", "their.vit.layernorm.bias"):
        assert name in str(error.value)


def test_without_the_name_of_an_architecture(written, tmp_path):
    for kind, expected in (("ViTModel", MiniViT), (_CLASSIFIER, MiniViTForImageClassification)):
        folder = shutil.copytree(written / kind, tmp_path / kind)
        change_config(folder, architectures="absent")
        assert type(MiniViT.from_pretrained(folder)) is expected


def test_a_body_with_and_without_pooler(written, tmp_path):
    assert MiniViT.from_pretrained(written / "ViTModel").pooler is not None
    theirs_of("ViTModel", config_of("smallest"), add_pooling_layer=False).save_pretrained(tmp_path)
    assert MiniViT.from_pretrained(tmp_path).pooler is None


def test_dtypes_dropout_and_implementation(written):
    folder = written / _CLASSIFIER
    assert MiniViT.from_pretrained(folder).classifier.weight.dtype == torch.float64
    model = MiniViT.from_pretrained(folder, dtype=torch.bfloat16, dropout=0.3, implementation="loops")
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}
    assert all(tensor.requires_grad for tensor in model.parameters())
    assert (model.config.dropout, model.config.attention_dropout) == (0.3, 0.0)
    assert {block.attention.implementation for block in model.vit.blocks} == {"loops"}
    state = torch.get_rng_state()
    MiniViT.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["ViTModel", _CLASSIFIER])
def test_a_new_classifier(written, kind, tmp_path):
    generator = torch.Generator().manual_seed(0)
    model = MiniViT.from_pretrained(written / kind, num_labels=5, pooling="mean", generator=generator)
    assert model.classifier.weight.shape == (5, 12)
    assert model.classifier.weight.dtype == torch.float64
    assert float(model.classifier.weight.detach().std()) == pytest.approx(0.02, rel=0.5)
    assert model.pooling == "mean"
    old = MiniViT.from_pretrained(written / kind)
    x = images_of(model.config)
    body = old if kind == "ViTModel" else old.vit
    torch.testing.assert_close(model.vit(x).last_hidden_state, body(x).last_hidden_state)
    named = MiniViTForImageClassification.from_pretrained(written / kind, labels=Labels(("cat", "dog")))
    named.save_pretrained(tmp_path)
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    assert again.config.id2label == {0: "cat", 1: "dog"}


@pytest.mark.parametrize("image_size", [9, 16, 40])
def test_positions_for_another_size(written, image_size, tmp_path):
    old = MiniViT.from_pretrained(written / _CLASSIFIER)
    model = MiniViT.from_pretrained(written / _CLASSIFIER, image_size=image_size)
    side = image_size // 4
    positions = model.vit.tokens.positions
    assert positions.is_leaf
    assert positions.requires_grad
    torch.testing.assert_close(positions[1:], resize_positions(old.vit.tokens.positions[1:], (side, side)))
    x = images_of(model.config)
    expected = old(x, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(model(x).logits, expected, rtol=1e-10, atol=1e-10)
    model.save_pretrained(tmp_path)
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path, dtype=torch.float64)
    torch.testing.assert_close(theirs(x).logits, expected, rtol=1e-10, atol=1e-10)


def test_options_that_contradict(written):
    with pytest.raises(ValueError, match="new classifier"):
        MiniViT.from_pretrained(written / _CLASSIFIER, pooling="mean")
    with pytest.raises(ValueError, match="num_labels=3 and labels of 2"):
        MiniViT.from_pretrained(written / _CLASSIFIER, num_labels=3, labels=Labels())
    with pytest.raises(ValueError, match="num_labels"):
        MiniViT.from_pretrained(written / _CLASSIFIER, num_labels=0)
    with pytest.raises(CheckpointError, match="without a classifier: num_labels= adds one"):
        MiniViTForImageClassification.from_pretrained(written / "ViTModel")


def test_mean_pooling_has_an_architecture_of_its_own(tmp_path):
    body = ours_of(theirs_of("ViTModel", config_of("no-qkv-bias"), add_pooling_layer=False))
    labels = Labels(("a", "b", "c"), "single_label_classification")
    model = MiniViTForImageClassification(body.config, labels, pooling="mean", vit=body, dtype=torch.float64)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["MiniViTForImageClassification"]
    again, x = MiniViT.from_pretrained(tmp_path), images_of(body.config)
    assert (again.pooling, again.labels) == ("mean", labels)
    assert torch.equal(again(x).logits, model(x).logits)
    theirs = transformers.ViTModel.from_pretrained(tmp_path, dtype=torch.float64, add_pooling_layer=False)
    expected = body(x).last_hidden_state
    torch.testing.assert_close(theirs(x).last_hidden_state, expected, rtol=1e-10, atol=1e-10)


def test_lora_is_written_as_an_ordinary_model(written, tmp_path):
    model = MiniViT.from_pretrained(written / _CLASSIFIER)
    add_lora(model, 2, 4.0, ("attention", "linear1"), trained=("classifier",))
    x, optimizer = images_of(model.config), AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    before = MiniViT.from_pretrained(written / _CLASSIFIER)(x).logits
    for _ in range(3):
        with record():
            output = model(x)
            model.backward(ClassifierOutput(torch.ones_like(output.logits)))
        optimizer.step()
    expected = model(x).logits.detach()
    assert float((expected - before.detach()).abs().max()) > 1e-3
    files = file_of(model, tmp_path)
    assert files.keys() == safetensors.torch.load_file(written / _CLASSIFIER / "model.safetensors").keys()
    theirs = transformers.ViTForImageClassification.from_pretrained(tmp_path, dtype=torch.float64)
    torch.testing.assert_close(theirs(x).logits, expected, rtol=1e-10, atol=1e-10)


def test_where_nothing_can_be_written(tmp_path, written):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError):
        MiniViT.from_pretrained(written / "ViTModel").save_pretrained(tmp_path / "file")


def test_the_model_comes_in_evaluation_mode(tmp_path):
    config = MiniViTConfig(8, 2, 3, 1, 2, 8, 12, dropout=0.5)
    MiniViT(config).save_pretrained(tmp_path)
    for options in ({}, {"num_labels": 3}, {"image_size": 12}):
        model = MiniViT.from_pretrained(tmp_path, **options)
        assert not any(module.training for module in model.modules())
