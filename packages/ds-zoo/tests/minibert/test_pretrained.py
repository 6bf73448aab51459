import json
import pickle

import pytest
import safetensors.torch
import torch
import transformers
from bert_twins import inputs_of, their_model
from ds_core import CheckpointError, no_record
from ds_core.errors import WriteError
from ds_zoo import (
    MiniBERT,
    MiniBERTConfig,
    MiniBERTForMaskedLM,
    MiniBERTForSequenceClassification,
    MiniBERTForTokenClassification,
)
from ds_zoo.minibert.config import from_hugging_face, to_hugging_face

TINY = MiniBERTConfig(9, 6, 1, 2, 8, 12)


def agree(ours, theirs, name="logits"):
    inputs = inputs_of(theirs.config, (2, 5), "right")
    with no_record():
        found = getattr(ours.eval()(**inputs), name)
    torch.testing.assert_close(found, getattr(theirs(**inputs), name).detach(), rtol=1e-9, atol=1e-9)


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit(folder, change):
    path = folder / "model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load_file(path)), path)


def test_reads_what_transformers_wrote_and_draws_nothing(tmp_path):
    theirs = their_model("BertForMaskedLM")
    theirs.save_pretrained(tmp_path)
    state = torch.get_rng_state()
    ours = MiniBERT.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(ours) is MiniBERTForMaskedLM
    agree(ours, theirs)
    assert MiniBERT.from_pretrained(tmp_path, dtype=torch.float32).bias.dtype == torch.float32
    assert all(tensor.requires_grad for tensor in ours.parameters())


def test_reads_shards(tmp_path):
    theirs = their_model("BertForTokenClassification")
    theirs.save_pretrained(tmp_path, max_shard_size="4KB")
    assert not (tmp_path / "model.safetensors").exists()
    agree(MiniBERT.from_pretrained(tmp_path), theirs)


def test_reads_a_published_file(tmp_path):
    """bert-base-uncased is said to be BertForMaskedLM, and has the names of 2018, a pooler and the other head."""
    theirs = their_model("BertForPreTraining")
    theirs.save_pretrained(tmp_path)
    rewrite(tmp_path, architectures=["BertForMaskedLM"])

    def as_published(tensors):
        old = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in tensors.items()
        }
        old["bert.embeddings.position_ids"] = torch.arange(11)[None]
        old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
        old["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
        return old

    edit(tmp_path, as_published)
    ours = MiniBERT.from_pretrained(tmp_path)
    assert type(ours) is MiniBERTForMaskedLM
    inputs = inputs_of(theirs.config, (2, 5), "right")
    with no_record():
        found = ours(**inputs).logits
    torch.testing.assert_close(found, theirs(**inputs).prediction_logits.detach(), rtol=1e-9, atol=1e-9)
    body = MiniBERT.from_pretrained(tmp_path, architecture="BertModel")
    agree(body, theirs.bert, "last_hidden_state")
    agree(body, theirs.bert, "pooler_output")


def test_a_body_without_prefix_and_with(tmp_path):
    theirs = their_model("BertModel")
    theirs.save_pretrained(tmp_path)
    agree(MiniBERT.from_pretrained(tmp_path), theirs, "pooler_output")
    edit(tmp_path, lambda tensors: {f"bert.{name}": tensor for name, tensor in tensors.items()})
    agree(MiniBERT.from_pretrained(tmp_path), theirs, "pooler_output")


@pytest.mark.parametrize("kind", [MiniBERTForSequenceClassification, MiniBERTForTokenClassification])
@pytest.mark.parametrize("source", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def test_a_new_head_on_a_pretrained_body(kind, source, tmp_path):
    theirs = their_model(source)
    theirs.save_pretrained(tmp_path)
    draw = torch.Generator().manual_seed(3)
    ours = kind.from_pretrained(tmp_path, num_labels=4, generator=draw)
    assert type(ours) is kind
    assert ours.classifier.out_features == len(ours.labels.names) == 4
    assert ours.classifier.weight.dtype == torch.float64
    assert 0 < float(ours.classifier.weight.detach().abs().max()) < 0.2
    assert not ours.classifier.bias.any()
    again = kind.from_pretrained(tmp_path, num_labels=4, generator=draw.manual_seed(3))
    assert torch.equal(ours.classifier.weight, again.classifier.weight)
    base = theirs if source == "BertModel" else theirs.bert
    agree(ours.bert, base, "last_hidden_state")
    ours.save_pretrained(tmp_path / "ours")
    assert type(MiniBERT.from_pretrained(tmp_path / "ours")) is kind
    agree(ours, getattr(transformers, kind.architecture).from_pretrained(tmp_path / "ours", dtype=torch.float64).eval())


def test_another_number_of_classes(tmp_path):
    theirs = their_model("BertForSequenceClassification", num_labels=3)
    theirs.save_pretrained(tmp_path)
    same = MiniBERTForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    agree(same, theirs)
    ours = MiniBERT.from_pretrained(tmp_path, num_labels=5)
    assert ours.classifier.out_features == 5
    agree(ours.bert, theirs.bert, "pooler_output")


def test_labels_stay_what_they_are(tmp_path):
    names = {0: "negative", 1: "neutral", 2: "positive"}
    theirs = their_model("BertForSequenceClassification", id2label=names, problem_type="single_label_classification")
    theirs.save_pretrained(tmp_path)
    ours = MiniBERT.from_pretrained(tmp_path)
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert again.config.id2label == names
    assert again.config.problem_type == "single_label_classification"


def test_the_config_goes_both_ways():
    config = MiniBERTConfig(9, 6, 3, 2, 8, 12, 3, 0.2, 0.3, 0.4, 1e-5, 0.1, None)
    assert from_hugging_face(to_hugging_face(config)) == config
    assert from_hugging_face({}) == MiniBERTConfig()
    theirs = transformers.BertConfig(**to_hugging_face(config))
    assert (theirs.num_hidden_layers, theirs.attention_probs_dropout_prob) == (3, 0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; MiniBERT reads only 'bert'"),
        ({"architectures": ["BertForQuestionAnswering"]}, "architectures is .*expected one of BertModel"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"num_attention_heads": 5}, "5 heads do not divide an embed_dim of 12"),
        ({"hidden_size": "wide"}, "embed_dim='wide', expected a whole number"),
        ({"vocab_size": 38}, r"cls.predictions.bias has shape \(37,\), expected \(38,\)"),
        ({"num_hidden_layers": 3}, "lacks bert.encoder.layer.2"),
        ({"num_hidden_layers": 1}, "holds bert.encoder.layer.1.*beyond the model"),
        ({"num_hidden_layers": 10**6}, "1,000,000 blocks, but it holds"),
        ({"vocab_size": 10**18}, "no memory holds a model of these sizes"),
    ],
)
def test_configs_of_other_models(changes, message, tmp_path):
    their_model("BertForMaskedLM").save_pretrained(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        MiniBERT.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {n: v for n, v in t.items() if "query.weight" not in n},
            "lacks bert.encoder.layer.0.attention.self",
        ),
        (
            lambda t: {n: v for n, v in t.items() if "transform" not in n},
            "lacks cls.predictions.transform.dense.weight",
        ),
        (lambda t: t | {"bert.extra": torch.zeros(2)}, "holds bert.extra beyond the model"),
        (lambda t: t | {"cls.predictions.bias": torch.zeros(3)}, r"cls.predictions.bias has shape \(3,\), expected"),
        (lambda t: t | {"cls.predictions.bias": torch.full((37,), torch.nan)}, "infinite or NaN"),
        (
            lambda t: t | {"cls.predictions.decoder.weight": torch.zeros(37, 12).double()},
            "cls.predictions.decoder.weight differs from bert.embeddings.word_embeddings.weight",
        ),
        (
            lambda t: {"weight": torch.zeros(2), "bias": torch.zeros(2)},
            "lacks cls.*holds bias, weight beyond the model",
        ),
    ],
)
def test_weights_of_other_models(change, message, tmp_path):
    their_model("BertForMaskedLM").save_pretrained(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        MiniBERT.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_body_that_is_not_whole_is_not_drawn_anew(tmp_path):
    their_model("BertForMaskedLM").save_pretrained(tmp_path)
    edit(tmp_path, lambda t: {n: v for n, v in t.items() if "layer.1.output.dense.weight" not in n})
    with pytest.raises(CheckpointError, match=r"lacks bert.encoder.layer.1.output.dense.weight"):
        MiniBERTForSequenceClassification.from_pretrained(tmp_path, num_labels=2)


def test_corrupt_files(tmp_path):
    MiniBERTForMaskedLM(TINY).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    damaged = {
        "not a whole safetensors file": whole[: len(whole) // 2],
        "is damaged": whole[:-8] + bytes(byte ^ 255 for byte in whole[-8:]),
        "not a whole": b"",
    }
    for message, content in damaged.items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            MiniBERT.from_pretrained(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        MiniBERT.from_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(CheckpointError, match="is a pickle"):
        MiniBERT.from_pretrained(tmp_path)


def test_no_such_architecture_and_no_such_folder(tmp_path):
    MiniBERT(TINY).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="given architecture='GPT', expected one of BertModel"):
        MiniBERT.from_pretrained(tmp_path, architecture="GPT")
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        MiniBERT.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write a model into"):
        MiniBERT(TINY).save_pretrained(tmp_path / "file")


def test_numbers_of_classes_that_make_no_sense(tmp_path):
    their_model("BertForSequenceClassification", num_labels=3).save_pretrained(tmp_path / "classes")
    for count in (0, -1):
        with pytest.raises(ValueError, match=f"given count={count}, expected 1 or more"):
            MiniBERT.from_pretrained(tmp_path / "classes", num_labels=count)
    with pytest.raises(TypeError, match=r"given count=2\.0, expected a whole number"):
        MiniBERT.from_pretrained(tmp_path / "classes", num_labels=2.0)
    their_model("BertModel").save_pretrained(tmp_path / "body")
    with pytest.raises(ValueError, match="given num_labels=3 for a BertModel, which has no classes"):
        MiniBERT.from_pretrained(tmp_path / "body", num_labels=3)


def test_a_body_without_its_pooler(tmp_path):
    theirs = transformers.BertModel(their_model("BertModel").config, add_pooling_layer=False).double().eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = MiniBERT.from_pretrained(tmp_path / "theirs")
    tokens = torch.tensor([[1, 2, 3]])
    output = ours(tokens)
    assert output.pooler_output is None
    torch.testing.assert_close(output.last_hidden_state, theirs(tokens).last_hidden_state)
    ours.save_pretrained(tmp_path / "ours")
    assert MiniBERT.from_pretrained(tmp_path / "ours").state_dict().keys() == ours.state_dict().keys()
