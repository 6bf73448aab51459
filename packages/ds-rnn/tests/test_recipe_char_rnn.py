"""The recipe `char-rnn` through everything that a recipe must survive, and what of it is its own."""

import json
import textwrap
from pathlib import Path

import pytest
import torch
from ds_core.cli.main import main
from ds_core.testing import RECIPE_PARTS, check_recipe
from ds_core.training.checkpoint import read_weights
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_rnn.language.recipe import CharRNNOptions, CharRNNRun, load_model
from language_twin import LanguageModelTwin, twin_steps
from tiny_recipes import CHAR_RNN, words, write_text


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A folder with a text, and with the same text backwards."""
    folder = tmp_path_factory.mktemp("texts")
    text = write_text(folder / "text.txt")
    (folder / "other.txt").write_text(text.read_text()[::-1])
    return folder


@pytest.fixture
def trained(texts, tmp_path, capsys):
    """The folder of a finished run."""
    out = tmp_path / "out"
    assert main(["train", "char-rnn", "--text", f"{texts}/text.txt", "--out", str(out), *words(CHAR_RNN)]) == 0
    capsys.readouterr()
    return out


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part, texts):
    check_recipe(
        "char-rnn",
        ["--text", f"{texts}/text.txt", *words(CHAR_RNN, steps=8, evaluate_every=3)],
        longer="--steps 10",
        shorter="--steps 2",
        changed={
            "--hidden-size 4": "--hidden-size: given 4, the run began with 6",
            "--no-carry": "--carry",
        },
        other_data=f"--text {texts}/other.txt",
        mistakes={
            "--window 500": "is too short",
            "--batch-size 400": "too few for --batch-size 400 stretches of --window 5 tokens",
            "--vocab-size 300": "--vocab-size contradicts --tokenizer characters",
            "--lr 1e-5": "--min-lr 0.0001 is above --lr 1e-05",
            "--cell lstmm": "did you mean lstm?",
            "--dropout 1": "--dropout: given 1.0, expected at most 0.99",
            "--steps 0": "--steps: given 0, expected at least 1",
            "--num-layers two": "--num-layers",
            "--device cuda:99": "--device cuda:99 cannot be used here",
        },
        together="--dropout 0 --dtype float64 --no-carry",
        parts=[part],
    )


def test_the_carried_state_is_in_the_checkpoint(trained):
    state = read_weights(trained / CHECKPOINT_FILE)
    assert state["carried_h"].shape == state["carried_c"].shape == (2, 3, 6)
    assert state["carried_h"].abs().min() > 0
    before = {name: tensor.clone() for name, tensor in state.items()}
    assert main(["train", "char-rnn", "--out", str(trained), "--resume", "--steps", "5"]) == 0
    after = read_weights(trained / CHECKPOINT_FILE)
    assert not torch.equal(before["carried_h"], after["carried_h"])


def test_generate_streams_and_repeats_with_a_seed(trained, capsys):
    texts = []
    for words_of_command in (["--seed", "1"], ["--seed", "1", "--no-stream"], ["--seed", "2"]):
        assert main(["generate", str(trained), "--tokens", "30", "--prompt", "to be", *words_of_command]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("to be")
    assert len(texts[0]) == len("to be") + 30 + 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prompt", "é"], "--prompt has a character the tokenizer never saw"),
        (["--prompt", ""], "--prompt is empty"),
        (["--temperature", "-1"], "--temperature"),
    ],
)
def test_a_prompt_that_cannot_be_read(trained, capsys, more, message):
    assert main(["generate", str(trained), *more]) == 2
    complaints = capsys.readouterr().err
    assert message in complaints
    assert "Traceback" not in complaints


def test_a_run_without_weights(trained, capsys):
    (trained / "best.safetensors").unlink()
    assert main(["generate", str(trained)]) != 0
    assert "has no best.safetensors yet" in capsys.readouterr().err
    assert load_model(trained, "last", 8).streams == 0


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("carry", [True, False])
def test_every_cell_trains(texts, tmp_path, capsys, cell, carry):
    out, more = tmp_path / "out", [] if carry else ["--no-carry"]
    given = ["--text", f"{texts}/text.txt", "--out", str(out), *words(CHAR_RNN, cell=cell), *more]
    assert main(["train", "char-rnn", *given]) == 0
    found = json.loads((out / "results.json").read_text())
    assert found["validation"]["loss"] > 0
    assert ("carried_h" in read_weights(out / CHECKPOINT_FILE)) == carry


def test_the_whole_loss_is_that_of_one_pass_over_the_text(texts, tmp_path, capsys):
    """Windows whose state is carried predict what one forward over the whole text does."""
    out = tmp_path / "out"
    given = ["--text", f"{texts}/text.txt", "--out", str(out), *words(CHAR_RNN)]
    assert main(["train", "char-rnn", *given]) == 0
    loss = json.loads((out / "results.json").read_text())["validation"]["loss"]
    options = CharRNNOptions(text=texts / "text.txt", out=tmp_path / "new", window=5, batch_size=3)
    run = CharRNNRun(options)
    tokens = run.read_data().validation[None]
    model = load_model(out, "best", 8)
    logits, _ = model.eval().advance(tokens[:, :-1], None)
    expected = torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:])
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_losses_are_those_of_torch(tmp_path, cell):
    """Text that people wrote, AdamW with warm-up and a cosine, clipping, a carried state that begins anew once."""
    options = CharRNNOptions(
        text=Path(textwrap.__file__),
        out=tmp_path / "run",
        dtype="float64",
        device="cpu",
        cell=cell,
        hidden_size=12,
        embed_dim=6,
        batch_size=80,
        window=16,
        steps=20,
        lr=0.05,
        clip_norm=0.3,
        evaluate_every=20,
        evaluate_tokens=2,
    )
    run = CharRNNRun(options)
    run.prepare()
    assert 0 < run.batches.steps_per_epoch < run.steps
    twin = LanguageModelTwin(run.model)
    records = run.trainer.fit(run.batches, run.steps).training
    norms = []
    for record, (loss, norm) in zip(records, twin_steps(twin, run), strict=True):
        assert record["loss"] == pytest.approx(loss, rel=1e-9)
        assert record["gradient_norm"] == pytest.approx(norm, rel=1e-9)
        norms.append(norm)
    assert max(norms) > options.clip_norm > min(norms)
    assert records[-1]["loss"] < records[0]["loss"] - 0.5
    for (name, tensor), other in zip(run.model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(tensor.detach(), other.detach(), rtol=1e-9, atol=1e-11, msg=name)
