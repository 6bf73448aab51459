"""Folders that are no CLIP of ours; the round trips stand in test_contract.py."""

import json

import pytest
import safetensors.torch
import torch
import transformers
from clip_cases import small_config, small_inputs, small_model, step
from ds_core import CheckpointError, UserError
from ds_core.errors import WriteError
from ds_zoo import MiniCLIP, MiniCLIPConfig
from ds_zoo.finetuning import add_lora


def rewrite(folder, part=None, **changes):
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    (fields if part is None else fields[part]).update(changes)
    path.write_text(json.dumps(fields))


def test_reads_shards(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path / "one")
    twin = transformers.CLIPModel.from_pretrained(tmp_path / "one", dtype=torch.float64)
    twin.save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    again = MiniCLIP.from_pretrained(tmp_path / "shards")
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dtype_survives_and_can_be_changed(dtype, tmp_path):
    small_model().to(dtype).save_pretrained(tmp_path)
    assert MiniCLIP.from_pretrained(tmp_path).similarity.logit_scale.dtype == dtype
    assert MiniCLIP.from_pretrained(tmp_path, dtype=torch.float64).text.tokens.weight.dtype == torch.float64
    state = torch.get_rng_state()
    MiniCLIP.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def test_absent_fields_have_the_published_values_and_the_older_dictionaries_count(tmp_path):
    from ds_zoo.miniclip.config import from_hugging_face

    fields = {"model_type": "clip", "architectures": ["CLIPModel"]}
    assert from_hugging_face(fields) == MiniCLIPConfig()
    old = {**fields, "text_config": {"hidden_size": 8}, "text_config_dict": {"hidden_size": 16, "eos_token_id": 2}}
    found = from_hugging_face(old)
    expected = transformers.CLIPConfig(**{name: value for name, value in old.items() if name != "architectures"})
    assert found.text.embed_dim == expected.text_config.hidden_size == 16
    assert found.text.end_token == expected.text_config.eos_token_id == 2


def test_position_ids_of_old_files_are_left_alone(tmp_path):
    small_model().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["text_model.embeddings.position_ids"] = torch.arange(7)[None]
    tensors["vision_model.embeddings.position_ids"] = torch.arange(10)[None]
    safetensors.torch.save_file(tensors, path)
    MiniCLIP.from_pretrained(tmp_path)


def test_updates_of_lora_are_folded_in(tmp_path):
    model = small_model()
    add_lora(model, 2, 4.0, ("attention", "feed_forward.linear1"))
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("lora_b"):
                tensor.add_(0.1)
    inputs = small_inputs(model.config)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(step(MiniCLIP.from_pretrained(tmp_path), inputs), step(model, inputs))


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (None, {"model_type": "bert"}, "model_type is 'bert'; MiniCLIP reads only 'clip'"),
        (None, {"architectures": ["CLIPVisionModel"]}, r"architectures is \['CLIPVisionModel'\]"),
        (None, {"projection_dim": 7}, r"is of another model: text_projection.weight has shape \(6, 12\), expected \(7"),
        (None, {"text_config": 3}, "text_config is 3, expected an object"),
        ("text_config", {"hidden_act": "gelu"}, "hidden_act is 'gelu'; MiniCLIP reads only 'quick_gelu'"),
        ("vision_config", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("vision_config", {"image_size": [12, 12]}, r"image_size=\[12, 12\], expected a whole number"),
        ("vision_config", {"patch_size": [4, 4]}, r"patch_size=\[4, 4\]"),
        ("text_config", {"eos_token_id": [14]}, r"end_token=\[14\]"),
        ("text_config", {"num_attention_heads": 5}, "5 heads do not divide"),
        ("text_config", {"num_hidden_layers": 1}, "beyond the model"),
        ("vision_config", {"num_hidden_layers": 3}, "it lacks vision_model.encoder.layers.2"),
        ("vision_config", {"num_hidden_layers": 10**9}, "its config.json says 1,000,000,002 blocks"),
        ("text_config", {"hidden_size": 10**9, "num_attention_heads": 1}, "no memory holds a model of these sizes"),
    ],
)
def test_models_that_miniclip_is_not(part, changes, message, tmp_path):
    small_model().save_pretrained(tmp_path)
    rewrite(tmp_path, part, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        MiniCLIP.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UserError)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"config.json does not exist"):
        MiniCLIP.from_pretrained(tmp_path)
    model = small_model()
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:-5], b"\xff" * len(whole)):
        weights.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            MiniCLIP.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors does not exist"):
        MiniCLIP.from_pretrained(tmp_path)
    with torch.no_grad():
        model.text.norm.bias[0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"text_model.final_layer_norm.bias holds numbers that are infinite"):
        MiniCLIP.from_pretrained(tmp_path)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(WriteError, match="cannot write a model into"):
        model.save_pretrained(tmp_path / "file")


def test_another_models_folder(tmp_path):
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="model_type is 'bert'"):
        MiniCLIP.from_pretrained(tmp_path)


def test_the_config_is_kept(tmp_path):
    model = small_model(small_config({"attention_dropout": 0.25, "begin_token": None}, logit_scale=1.5))
    model.save_pretrained(tmp_path)
    assert MiniCLIP.from_pretrained(tmp_path).config == model.config
