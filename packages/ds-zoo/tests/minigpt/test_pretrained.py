import json
import pickle

import pytest
import safetensors.torch
import torch
import transformers
from ds_core import CheckpointError, no_record
from ds_core.errors import WriteError
from ds_zoo import MiniGPT, MiniGPTConfig


def their_model(**options):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=8, n_layer=2, n_head=2, n_embd=8, bos_token_id=None, eos_token_id=None, **options
    )
    model = transformers.GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor), alpha=0.2)
    return model


def our_model(**options):
    torch.manual_seed(0)
    return MiniGPT(MiniGPTConfig(11, 8, 2, 2, 8, **options), dtype=torch.float64).eval()


def agree(ours, theirs):
    tokens = torch.tensor([[1, 5, 10, 0, 3], [2, 2, 7, 9, 4]])
    with no_record():
        torch.testing.assert_close(ours.eval()(tokens), theirs(tokens).logits, rtol=1e-9, atol=1e-9)


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_reads_what_transformers_wrote(tmp_path):
    theirs = their_model()
    theirs.save_pretrained(tmp_path)
    state = torch.get_rng_state()
    ours = MiniGPT.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)  # the weights it draws and discards come from elsewhere
    agree(ours, theirs)
    assert ours.config == MiniGPTConfig(11, 8, 2, 2, 8, dropout=0.1)
    assert MiniGPT.from_pretrained(tmp_path, dtype=torch.float32).tokens.weight.dtype == torch.float32


def test_reads_shards(tmp_path):
    theirs = their_model()
    theirs.save_pretrained(tmp_path, max_shard_size="4KB")
    assert not (tmp_path / "model.safetensors").exists()
    agree(MiniGPT.from_pretrained(tmp_path), theirs)


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": []}, {"weight_map": None}, {"weight_map": {"transformer.wte.weight": 3}}]
)
def test_an_index_of_shards_that_lists_no_files(index, tmp_path):
    our_model().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "3")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"index.json is damaged: expected a weight_map") as caught:
        MiniGPT.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["file.txt", "file.txt/below"])
def test_a_folder_that_cannot_be_made(folder, tmp_path):
    (tmp_path / "file.txt").write_text("precious")
    with pytest.raises(WriteError, match=r"cannot write a model into .*file.txt") as caught:
        our_model().save_pretrained(tmp_path / folder)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file.txt").read_text() == "precious"


def test_reads_names_without_prefix_and_with_the_head(tmp_path):
    theirs = their_model()
    theirs.transformer.save_pretrained(tmp_path / "bare")  # as the published GPT-2 files are
    agree(MiniGPT.from_pretrained(tmp_path / "bare"), theirs)
    theirs.save_pretrained(tmp_path / "headed")
    path = tmp_path / "headed" / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    tensors["transformer.h.0.attn.bias"] = torch.ones(1, 1, 8, 8)  # the causal mask that old files hold
    safetensors.torch.save_file(tensors, path)
    agree(MiniGPT.from_pretrained(tmp_path / "headed"), theirs)
    tensors["lm_head.weight"] += 1
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"lm_head.weight differs"):
        MiniGPT.from_pretrained(tmp_path / "headed")


@pytest.mark.parametrize("bias", [True, False])
def test_transformers_reads_what_we_wrote(bias, tmp_path):
    ours = our_model(bias=bias, dropout=0.2)
    ours.save_pretrained(tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float64).eval()
    agree(ours, theirs)
    assert theirs.config.resid_pdrop == 0.2
    again = MiniGPT.from_pretrained(tmp_path)
    assert again.config == ours.config
    assert again.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in again.state_dict().items())


def test_transformers_goes_on_from_what_we_wrote_and_back(tmp_path):
    our_model().save_pretrained(tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float64).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    agree(MiniGPT.from_pretrained(tmp_path / "theirs"), theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dtype_survives(dtype, tmp_path):
    our_model().to(dtype).save_pretrained(tmp_path)
    assert MiniGPT.from_pretrained(tmp_path).tokens.weight.dtype == dtype


def test_dropout_rates_that_differ(tmp_path):
    their_model(attn_pdrop=0.3, embd_pdrop=0.0).save_pretrained(tmp_path / "theirs")
    ours = MiniGPT.from_pretrained(tmp_path / "theirs")
    assert ours.config == MiniGPTConfig(11, 8, 2, 2, 8, dropout=0.1, attention_dropout=0.3, embedding_dropout=0.0)
    assert (ours.dropout.p, ours.blocks[1].attention.dropout, ours.blocks[0].dropout2.p) == (0.0, 0.3, 0.1)
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.GPT2Config.from_pretrained(tmp_path / "ours")
    assert (again.embd_pdrop, again.attn_pdrop, again.resid_pdrop) == (0.0, 0.3, 0.1)
    without = MiniGPT.from_pretrained(tmp_path / "theirs", dropout=0.0).config
    assert without == MiniGPTConfig(11, 8, 2, 2, 8, dropout=0.0)


def test_feed_forward_layers_of_another_width(tmp_path):
    theirs = their_model(n_inner=13)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = MiniGPT.from_pretrained(tmp_path / "theirs")
    agree(ours, theirs)
    assert ours.config == MiniGPTConfig(11, 8, 2, 2, 8, hidden_dim=13, dropout=0.1)
    ours.save_pretrained(tmp_path / "ours")
    agree(ours, transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours", dtype=torch.float64).eval())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"n_inner": 3}, r"transformer.h.0.mlp.c_fc.weight has shape \(8, 32\), expected \(8, 3\)"),
        ({"n_inner": 0}, "given hidden_dim=0, expected 1 or more"),
        ({"architectures": ["GPT2ForSequenceClassification"]}, r"architectures is \['GPT2ForSequenceClassification'\]"),
        ({"attn_pdrop": 1.5}, "given attention_dropout=1.5"),
        ({"n_head": 3}, "3 heads do not divide"),
        ({"n_layer": 1}, r"is of another model: it holds transformer.h.1.attn.c_attn.bias, .* 9 more beyond the model"),
        ({"n_layer": 3}, r"is of another model: it lacks transformer.h.2.ln_1.weight, .* 9 more$"),
        ({"n_embd": 10**9, "n_head": 1}, r"config.json: no memory holds a model of these sizes"),
        ({"vocab_size": 10**12}, r"transformer.wte.weight has shape \(11, 8\), expected \(1000000000000, 8\)"),
        ({"n_layer": 10**9}, r"of another model: its config.json says 1,000,000,000 blocks, but it holds 28 tensors"),
        ({"n_positions": 9}, r"of another model: transformer.wpe.weight has shape \(8, 8\), expected \(9, 8\)"),
    ],
)
def test_models_that_minigpt_is_not(changes, message, tmp_path):
    our_model().save_pretrained(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        MiniGPT.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_biases_that_should_not_be_there(tmp_path):
    ours = our_model()
    with torch.no_grad():
        ours.norm.bias.fill_(1.0)
    ours.save_pretrained(tmp_path)
    rewrite(tmp_path, deepscratch_bias=False)
    with pytest.raises(CheckpointError, match=r"transformer.ln_f.bias is not zero"):
        MiniGPT.from_pretrained(tmp_path)


def inverted(whole):
    data = 8 + int.from_bytes(whole[:8], "little")
    return whole[:data] + bytes(byte ^ 255 for byte in whole[data:])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value, tmp_path):
    theirs = their_model()
    with torch.no_grad():
        theirs.transformer.ln_f.bias[3] = value
    theirs.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"transformer.ln_f.bias holds numbers that are infinite or NaN"):
        MiniGPT.from_pretrained(tmp_path)


def test_a_file_in_place_of_the_folder(tmp_path):
    our_model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"model.safetensors is a file, expected the folder that holds config"):
        MiniGPT.from_pretrained(tmp_path / "model.safetensors")


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"config.json does not exist"):
        MiniGPT.from_pretrained(tmp_path)
    our_model().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:7], whole[:-5], b"\xff" * len(whole)):
        weights.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            MiniGPT.from_pretrained(tmp_path)
    weights.write_bytes(inverted(whole))
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged: transformer\.\S+ does not have"):
        MiniGPT.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors does not exist"):
        MiniGPT.from_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(CheckpointError, match="pickle"):
        MiniGPT.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot read .*config.json"):
        MiniGPT.from_pretrained(tmp_path)
