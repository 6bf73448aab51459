"""MiniBERT against transformers' BERT with random weights: the contract that every model of ds-zoo keeps."""

import itertools

import pytest
import safetensors.torch
import torch
import transformers
from bert_twins import (
    CASES,
    assert_same_gradients,
    file_of_gradients,
    handwritten_step,
    inputs_of,
    labels_of,
    our_model,
    outputs_of,
    their_model,
)
from ds_core import AdamW, no_record, plain, primitives_only, record
from ds_core.testing import report
from ds_zoo import MiniBERT

pytestmark = pytest.mark.usefixtures("float64")
WITH_LOSS = [name for name, case in CASES.items() if case[0] != "BertModel"]
ONE_OF_EACH = ["masked", "pre-training", "sequence", "tokens"]


def twins(case, folder, **options):
    """Ours, theirs, inputs, labels."""
    architecture, fields, shape, mask = CASES[case]
    theirs = their_model(architecture, **fields)
    ours = our_model(theirs, folder / "theirs", **options)
    return ours, theirs, inputs_of(theirs.config, shape, mask), labels_of(architecture, theirs.config, shape)


def assert_same_outputs(ours, theirs):
    found, expected = outputs_of(ours), outputs_of(theirs)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_of_each_and_of_all_together(case, implementation, tmp_path):
    ours, theirs, inputs, _ = twins(case, tmp_path, implementation=implementation)
    names = list(outputs_of(theirs(**inputs)))
    chosen = [*((name,) for name in names), names] if len(names) > 1 else [names]
    for given in chosen:
        ours.zero_grad()
        theirs.zero_grad()
        expected = theirs(**inputs)
        drawn = {name: torch.randn_like(outputs_of(expected)[name]) for name in given}
        sum((outputs_of(expected)[name] * gradient).sum() for name, gradient in drawn.items()).backward()
        with record():
            output = ours(**inputs)
            ours.backward(type(output)(**drawn))
        assert_same_outputs(output, expected)
        assert_same_gradients(ours, theirs, tmp_path)


@pytest.mark.parametrize("case", WITH_LOSS)
def test_loss_terms_and_gradients(case, tmp_path):
    ours, theirs, inputs, labels = twins(case, tmp_path)
    expected = theirs(**inputs, **labels)
    expected.loss.backward()
    output, loss, terms = handwritten_step(ours, inputs, labels)
    assert_same_outputs(output, expected)
    torch.testing.assert_close(loss, expected.loss.detach(), rtol=1e-9, atol=1e-12)
    assert_same_gradients(ours, theirs, tmp_path)
    if CASES[case][0] == "BertForPreTraining":
        cross_entropy = torch.nn.CrossEntropyLoss()
        masked = cross_entropy(expected.prediction_logits.flatten(0, 1), labels["labels"].flatten())
        following = cross_entropy(expected.seq_relationship_logits, labels["next_sentence_label"])
        assert list(terms) == ["masked_lm_loss", "next_sentence_loss"]
        torch.testing.assert_close(terms["masked_lm_loss"], masked.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(terms["next_sentence_loss"], following.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 4])
def test_position_ids_and_no_token_types(rows, tmp_path):
    ours, theirs, inputs, labels = twins("masked", tmp_path)
    del inputs["token_type_ids"]
    positions = torch.randint(11, (rows, 9), generator=torch.Generator().manual_seed(3))
    theirs(**inputs, **labels, position_ids=positions).loss.backward()
    handwritten_step(ours, {**inputs, "position_ids": positions}, labels)
    assert_same_gradients(ours, theirs, tmp_path)


def test_a_text_of_padding_alone_attends_to_nothing(tmp_path):
    """As PyTorch's attention: its output is 0, so the text is what embeddings, biases and norms make of it."""
    ours, theirs, inputs, _ = twins("model", tmp_path)
    inputs["attention_mask"][1] = 0
    expected = theirs(**inputs).last_hidden_state
    with no_record():
        found = ours(**inputs).last_hidden_state
    torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-9)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("case", CASES)
def test_transformers_loads_what_we_wrote(case, tmp_path):
    ours, theirs, inputs, labels = twins(case, tmp_path)
    if labels:  # after some steps of training
        optimizer = AdamW(ours.parameters(), lr=1e-2)
        for _ in range(3):
            handwritten_step(ours, inputs, labels)
            optimizer.step()
            optimizer.zero_grad()
    ours.save_pretrained(tmp_path / "ours")
    again, loading = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    again.eval()
    assert not any(loading[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = again(**inputs, **labels)
    with no_record():
        output = ours(**inputs)
        assert_same_outputs(output, expected)
        if labels:
            loss = ours.criterion()(output, **labels)
            torch.testing.assert_close(loss, expected.loss.detach(), rtol=1e-9, atol=1e-12)
    again.save_pretrained(tmp_path / "again")
    files = [tmp_path / folder / "model.safetensors" for folder in ("ours", "again")]
    first, second = map(safetensors.torch.load_file, files)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert MiniBERT.from_pretrained(tmp_path / "again").config == ours.config


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_ten_adamw_steps_follow_transformers(case, tmp_path):
    ours, theirs, _, _ = twins(case, tmp_path)
    architecture, _, shape, mask = CASES[case]
    settings = {"lr": 3e-3, "betas": (0.9, 0.99), "weight_decay": 0.1}
    our_optimizer = AdamW(ours.parameters(), **settings)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), **settings)
    for step in range(10):
        inputs = inputs_of(theirs.config, shape, mask, seed=step)
        labels = labels_of(architecture, theirs.config, shape, seed=step)
        _, loss, _ = handwritten_step(ours, inputs, labels)
        expected = theirs(**inputs, **labels).loss
        expected.backward()
        for optimizer in (our_optimizer, their_optimizer):
            optimizer.step()
            optimizer.zero_grad()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-8, atol=1e-9)
    for model, name in ((ours, "ours"), (theirs, "theirs")):
        model.save_pretrained(tmp_path / name)
    found, expected = (
        safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs")
    )
    for name, tensor in expected.items():
        if not name.endswith("key.bias"):  # its gradient is rounding alone: Adam makes a step of it
            torch.testing.assert_close(found[name], tensor, rtol=1e-8, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("case", ["model", *ONE_OF_EACH])
def test_handwritten_equals_autograd_for_every_parameter(case, tmp_path):
    ours, theirs, inputs, labels = twins(case, tmp_path)
    # Of the padding token's embedding nothing is learned, though the loss depends on it: finite differences would see
    padding = theirs.config.pad_token_id
    inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["input_ids"] == padding, padding + 1)
    batch = tuple(inputs.get(name) for name in ("input_ids", "attention_mask", "token_type_ids"))
    target = tuple(labels.values()) if len(labels) > 1 else next(iter(labels.values()), None)
    found = report(ours, batch, ours.criterion() if labels else None, target)
    assert found.ok, str(found)
    assert len(found.rows) == len(list(ours.parameters()))


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_a_whole_step_with_dropout_is_primitive(case, tmp_path):
    ours, _, inputs, labels = twins(case, tmp_path)
    for module in ours.modules():
        if hasattr(module, "p"):
            module.p = 0.1
    ours.train()
    optimizer = AdamW(ours.parameters(), lr=1e-3)
    with primitives_only() as operations:
        handwritten_step(ours, inputs, labels)
        optimizer.step()
        optimizer.zero_grad()
    assert sum(operations.values()) > 100


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_plain_pairs_give_the_same(case, tmp_path):
    ours, _, inputs, labels = twins(case, tmp_path)
    _, expected, _ = handwritten_step(ours, inputs, labels)
    gradients = file_of_gradients(ours, tmp_path / "fast")
    ours.zero_grad()
    with plain():
        _, loss, _ = handwritten_step(ours, inputs, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-12)
    for name, tensor in file_of_gradients(ours, tmp_path / "plain").items():
        torch.testing.assert_close(tensor, gradients[name], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_overfits_one_batch(case, tmp_path):
    ours, _, inputs, labels = twins(case, tmp_path)
    inputs.pop("attention_mask", None)
    inputs["input_ids"] = torch.randint(37, inputs["input_ids"].shape, generator=torch.Generator().manual_seed(7))
    optimizer = AdamW(ours.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(150):
        _, loss, _ = handwritten_step(ours, inputs, labels)
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss) < 0.01


@pytest.mark.parametrize("case", ["model", *ONE_OF_EACH])
def test_gradients_of_zeros_leave_nothing_behind(case, tmp_path):
    ours, _, inputs, _ = twins(case, tmp_path)
    with record() as trace:
        ours(**inputs)
        ours.backward(None)
        assert len(trace) == 0
        output = ours(**inputs)
        ours.backward(type(output)())
        assert len(trace) == 0
    assert all(tensor.grad is None for tensor in ours.parameters())


@pytest.mark.parametrize("case", ONE_OF_EACH)
def test_frozen_parts_get_nothing_and_the_others_the_same(case, tmp_path):
    ours, _, inputs, labels = twins(case, tmp_path)
    handwritten_step(ours, inputs, labels)
    expected = {name: tensor.grad for name, tensor in ours.named_parameters()}
    heads = [name for name in expected if not name.startswith("bert.")]
    tokens = "bert.embeddings.tokens.weight"
    for trained in (
        [tokens],
        ["bert.blocks.1.norm1.weight"],
        heads,
        [heads[-1], "bert.blocks.0.attention.in_proj_bias"],
    ):
        ours.zero_grad()
        for name, tensor in ours.named_parameters():
            tensor.requires_grad_(name in trained)
        handwritten_step(ours, inputs, labels)
        for name, tensor in ours.named_parameters():
            if name in trained:
                torch.testing.assert_close(tensor.grad, expected[name], rtol=1e-11, atol=1e-13)
            else:
                assert tensor.grad is None


def test_pairs_of_architectures_share_their_bodies(tmp_path):
    """Each architecture from a folder of each: the body is that of the folder, what is missing is drawn anew."""
    for source, wanted in itertools.product(["BertModel", "BertForMaskedLM", "BertForPreTraining"], repeat=2):
        theirs = their_model(source)
        ours = our_model(theirs, tmp_path / source, architecture=wanted)
        base = theirs if source == "BertModel" else theirs.bert
        inputs = inputs_of(theirs.config, (2, 5), "right")
        with no_record():
            body = ours if wanted == "BertModel" else ours.bert
            hidden = body(**inputs).last_hidden_state
        torch.testing.assert_close(hidden, base(**inputs).last_hidden_state.detach(), rtol=1e-9, atol=1e-9)
        ours.save_pretrained(tmp_path / "again")
        _, loading = getattr(transformers, wanted).from_pretrained(tmp_path / "again", output_loading_info=True)
        assert not loading["missing_keys"]
        assert not loading["unexpected_keys"]
