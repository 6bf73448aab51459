"""The gradient of a language model's state, token by token, while it trains: what is measured, logged and drawn."""

import json
from functools import partial

import pytest
import torch
import torch._dynamo
from ds_core import SGD, TokenCrossEntropy, Trainer
from ds_core.cli.main import main
from ds_core.training.checkpoint import read_weights
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE
from ds_rnn import (
    LanguageModelConfig,
    RNNLanguageModel,
    StateGradientNorms,
    TextStreams,
    plot_state_gradient_norms,
    state_gradient_norms,
)
from ds_rnn.language.state_gradient_norms import RECORD_KIND
from tiny_recipes import CHAR_RNN, words, write_text

CELLS = pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])


def model_of(cell, streams=0, dropout=0.0, dtype=torch.float64):
    config = LanguageModelConfig(7, 4, 5, 2, cell, dropout)
    return RNNLanguageModel(config, streams, dtype=dtype, generator=torch.Generator().manual_seed(0))


def recorded(folder):
    lines = (folder / LOG_FILE).read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == RECORD_KIND]


def test_worked_example():
    # docs/gradient_norms.md
    model = RNNLanguageModel(LanguageModelConfig(2, 1, 1, 1, "rnn"))
    model.layers.weight_hh_l0.data.fill_(0.5)
    for tensor in (model.layers.weight_ih_l0, model.layers.bias_ih_l0, model.layers.bias_hh_l0, model.head.bias):
        tensor.data.zero_()
    model.head.weight.data.copy_(torch.tensor([[1.0], [0.0]]))
    tokens = torch.tensor([[0, 1, 0]])
    last = state_gradient_norms(model, tokens, torch.tensor([[1, 0, 1]]), last_only=True)
    assert last.tolist() == [[[0.0625, 0.125, 0.25]]]
    # token 1 is followed by 0: its loss pulls the other way, and has a third of the weight
    whole = state_gradient_norms(model, tokens, torch.tensor([[1, 0, 1]]))
    expected = torch.tensor([[[0.25 - 0.125 + 0.0625, 0.25 - 0.125, 0.25]]], dtype=torch.float64) / 3
    torch.testing.assert_close(whole, expected, rtol=1e-6, atol=0)
    # and one that explodes
    model.layers.weight_hh_l0.data.fill_(2.0)
    last = state_gradient_norms(model, tokens, torch.tensor([[1, 0, 1]]), last_only=True)
    assert last.tolist() == [[[4.0, 2.0, 1.0]]]


@CELLS
@pytest.mark.parametrize("last_only", [True, False])
def test_they_are_those_of_autograd(cell, last_only):
    model = model_of(cell)
    text = torch.randint(7, (3, 7), generator=torch.Generator().manual_seed(1))
    tokens, targets = text[:, :-1], text[:, 1:]
    draw = torch.Generator().manual_seed(2)
    kinds = 2 if cell == "lstm" else 1
    state = tuple(torch.randn(2, 3, 5, dtype=torch.float64, generator=draw) for _ in range(kinds))
    found = state_gradient_norms(model, tokens, targets, state, last_only=last_only)
    assert found.shape == (kinds, 2, 6)
    for t in range(6):
        leaves = tuple(tensor.detach().requires_grad_() for tensor in state)
        logits, _ = model.advance(tokens[:, t:], leaves)
        losses = torch.nn.functional.cross_entropy(logits.mT, targets[:, t:], reduction="none")
        loss = losses[:, -1].sum() if last_only else losses.sum() / 6  # each stream's own, of the whole window
        gradients = torch.autograd.grad(loss, leaves)
        expected = torch.stack([gradient.square().sum(2).sqrt().mean(1) for gradient in gradients])
        torch.testing.assert_close(found[:, :, t], expected)
        _, state = model.advance(tokens[:, t : t + 1], state)


def test_more_streams_of_the_same_text_change_nothing():
    model, text = model_of("gru"), torch.tensor([[1, 2, 3, 4, 5]])
    one = state_gradient_norms(model, text[:, :-1], text[:, 1:])
    three = state_gradient_norms(model, text[:, :-1].repeat(3, 1), text[:, 1:].repeat(3, 1))
    torch.testing.assert_close(one, three)


def test_a_gradient_too_small_to_be_squared_in_float32_is_seen():
    model = model_of("rnn", dtype=torch.float32)
    for layer in range(2):
        getattr(model.layers, f"weight_hh_l{layer}").data.mul_(0.02)
    text = torch.randint(7, (2, 16), generator=torch.Generator().manual_seed(1))
    norms = state_gradient_norms(model, text[:, :-1], text[:, 1:], last_only=True)[0, -1]
    assert 0 < norms[0] < 1e-23
    assert (norms.diff() > 0).all()


@CELLS
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("carry", [True, False])
def test_training_is_the_same_bit_for_bit_without_it(cell, dropout, carry):
    def trained(measured):
        torch.manual_seed(3)
        model = model_of(cell, 3 if carry else 0, dropout, torch.float32)
        draw = torch.Generator().manual_seed(1)
        batches = TextStreams(torch.randint(7, (80,), generator=draw), 6, 3, carry=carry)
        optimizer = SGD(model.parameters(), lr=0.5, momentum=0.9)
        callbacks = [StateGradientNorms(batches, 2)] if measured else []
        trainer = Trainer(model, TokenCrossEntropy(), optimizer, clip_norm=1.0, callbacks=callbacks)
        history = trainer.fit(batches, 7)
        assert model.training
        assert all(tensor.requires_grad and tensor.grad is None for tensor in model.parameters())
        return model.state_dict(), history, torch.get_rng_state()

    (with_it, history, drawn), (without, _, expected) = trained(True), trained(False)
    assert with_it.keys() == without.keys()
    assert all(torch.equal(tensor, without[name]) for name, tensor in with_it.items())
    assert torch.equal(drawn, expected)
    steps = [record["step"] for record in history.records if record["kind"] == RECORD_KIND]
    assert steps == [1, 2, 4, 6]


def test_what_is_recorded_is_what_the_next_window_sends_back():
    model = model_of("lstm", streams=3)
    batches = TextStreams(torch.randint(7, (80,), generator=torch.Generator().manual_seed(1)), 6, 3)
    trainer = Trainer(
        model, TokenCrossEntropy(), SGD(model.parameters(), lr=0.5), callbacks=[StateGradientNorms(batches, 2)]
    )
    record = [record for record in trainer.fit(batches, 2).records if record["kind"] == RECORD_KIND][-1]
    (tokens, _), targets = batches.batch(2)
    carried = (model.carried_h, model.carried_c)
    for loss in ("last", "all"):
        expected = state_gradient_norms(model, tokens, targets, carried, last_only=loss == "last")
        for kind, norms in zip("hc", expected, strict=True):
            found = torch.tensor(record[f"{loss}_{kind}"], dtype=torch.float64)
            torch.testing.assert_close(found, norms, rtol=1e-3, atol=0)


def test_a_resumed_run_has_the_records_of_an_unbroken_one(tmp_path):
    batches = TextStreams(torch.randint(7, (80,), generator=torch.Generator().manual_seed(1)), 6, 3)

    def trainer_in(folder):
        model = model_of("lstm", streams=3, dtype=torch.float32)
        norms = StateGradientNorms(batches, 2)
        return Trainer(
            model, TokenCrossEntropy(), SGD(model.parameters(), lr=0.5), folder=tmp_path / folder, callbacks=[norms]
        )

    trainer_in("whole").fit(batches, 6)
    trainer_in("parts").fit(batches, 3)
    resumed = trainer_in("parts")
    resumed.resume()
    resumed.fit(batches, 6)
    assert [record["step"] for record in recorded(tmp_path / "whole")] == [1, 2, 4, 6]
    assert recorded(tmp_path / "parts") == recorded(tmp_path / "whole")


def test_a_compiled_step_is_recorded_too_and_stays_one_graph(monkeypatch):
    """Parameters that ask for no gradient for a while must not make the compiler start again."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    model = model_of("gru", streams=3, dtype=torch.float32)
    batches = TextStreams(torch.randint(7, (80,), generator=torch.Generator().manual_seed(1)), 4, 3)
    norms = StateGradientNorms(batches, 1)
    optimizer = SGD(model.parameters(), lr=0.5)
    history = Trainer(model, TokenCrossEntropy(), optimizer, clip_norm=1.0, compile=True, callbacks=[norms]).fit(
        batches, 4
    )
    assert [record["step"] for record in history.records if record["kind"] == RECORD_KIND] == [1, 2, 3, 4]
    assert counters["stats"]["unique_graphs"] == 1


def test_a_norm_that_is_no_number_is_null_in_the_log():
    model = model_of("rnn", streams=2)
    batches = TextStreams(torch.arange(40) % 7, 4, 2)
    trainer = Trainer(model, TokenCrossEntropy(), SGD(model.parameters(), lr=0.1))
    trainer.fit(batches, 1)
    model.head.weight.data[0, 0] = float("inf")
    StateGradientNorms(batches, 1).on_step_end(trainer, {})
    assert None in trainer.history.records[-1]["last_h"][0]


def test_a_frozen_parameter_stays_frozen():
    model, text = model_of("gru"), torch.tensor([[1, 2, 3]])
    model.tokens.weight.requires_grad_(False)
    state_gradient_norms(model, text[:, :-1], text[:, 1:])
    assert [name for name, tensor in model.named_parameters() if not tensor.requires_grad] == ["tokens.weight"]
    assert all(tensor.grad is None for tensor in model.parameters())


def test_no_steps_between_records_are_refused():
    with pytest.raises(ValueError, match="given every=0, expected at least 1"):
        StateGradientNorms(None, 0)


def test_nothing_is_drawn_without_records(tmp_path):
    assert not plot_state_gradient_norms([{"kind": "train", "step": 1}], tmp_path / "norms.png")
    assert not (tmp_path / "norms.png").exists()


def test_the_recipe_records_and_draws_and_a_resumed_run_continues(tmp_path, capsys):
    text, whole, parts = write_text(tmp_path / "text.txt"), tmp_path / "whole", tmp_path / "parts"
    given = ["--text", str(text), *words(CHAR_RNN, steps=5, gradient_norms_every=2)]
    assert main(["train", "char-rnn", "--out", str(whole), *given]) == 0
    found, weights = recorded(whole), read_weights(whole / CHECKPOINT_FILE)
    assert [record["step"] for record in found] == [1, 2, 4]
    assert {len(norms) for record in found for kind in ("h", "c") for norms in record[f"all_{kind}"]} == {5}
    assert (whole / "gradient_norms.png").stat().st_size > 1000
    assert main(["train", "char-rnn", "--out", str(parts), *given, "--steps", "3", "--no-plots"]) == 0
    assert [record["step"] for record in recorded(parts)] == [1, 2]
    assert main(["train", "char-rnn", "--out", str(parts), "--resume", "--steps", "5"]) == 0
    assert [record["step"] for record in recorded(parts)] == [1, 2, 4]
    assert not (parts / "gradient_norms.png").exists()
    # without it: the same weights, and no plot, nor the one of the run before
    assert main(["train", "char-rnn", "--out", str(whole), *given, "--gradient-norms-every", "0", "--overwrite"]) == 0
    assert recorded(whole) == []
    assert not (whole / "gradient_norms.png").exists()
    without = read_weights(whole / CHECKPOINT_FILE)
    assert all(torch.equal(tensor, without[name]) for name, tensor in weights.items())
