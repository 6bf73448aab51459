"""The recipe `translate-rnn` through everything that a recipe must survive, and what of it is its own."""

import pytest
import torch
from ds_core import record
from ds_core.cli.main import main
from ds_core.testing import RECIPE_PARTS, check_recipe
from ds_rnn import Seq2SeqRNN, Seq2SeqRNNConfig
from ds_rnn.translation.attention_maps import attention_maps
from ds_rnn.translation.recipe import TranslateRNNRun
from tiny_recipes import TRANSLATE_RNN, words, write_sentences


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with 75 pairs, and with others."""
    folder = tmp_path_factory.mktemp("sentences")
    text = write_sentences(folder / "sentences.tsv").read_text("utf-8")
    (folder / "other.tsv").write_text(text.replace("the", "that"), "utf-8")
    return folder


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part, files):
    check_recipe(
        "translate-rnn",
        ["--pairs", f"{files}/sentences.tsv", *words(TRANSLATE_RNN, epochs=3, average=2, checkpoint_every=2)],
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={
            "--hidden-size 4": "--hidden-size: given 4, the run began with 6",
            "--attention none": "--attention: given none, the run began with luong",
        },
        other_data=f"--pairs {files}/other.tsv",
        mistakes={
            "--attention lunog": "did you mean luong?",
            "--cell rnn": "--cell: given 'rnn', expected one of lstm, gru",
            "--hidden-size 0": "--hidden-size: given 0, expected at least 1",
            "--preset multi30": "did you mean multi30k?",
            "--schedule noam": "--schedule noam needs --lr",
            "--source-language de": "--source-language and --target-language are both 'de'",
        },
        together="--dtype float64 --dropout 0",
        parts=[part],
    )


@pytest.mark.parametrize("attention", ["luong", "bahdanau", "none"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_kind_trains_and_translates(files, tmp_path, capsys, attention, cell):
    out = tmp_path / "out"
    given = ["--pairs", f"{files}/sentences.tsv", "--out", str(out), "--no-plots"]
    options = words(TRANSLATE_RNN, attention=attention, cell=cell, num_layers=2)
    assert main(["train", "translate-rnn", *given, *options]) == 0
    capsys.readouterr()
    assert main(["translate", str(out), "--text", "the cat sees the dog.", "--beam-size", "2"]) == 0
    assert capsys.readouterr().out.endswith("\n")
    assert TranslateRNNRun.load(out).model.config.attention == attention


def test_a_map_of_a_run_without_attention_is_refused(files, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--pairs", f"{files}/sentences.tsv", "--out", str(out), *words(TRANSLATE_RNN, attention="none")]
    assert main(["train", "translate-rnn", *given]) == 0
    assert not (out / "attention.png").exists()
    capsys.readouterr()
    assert main(["translate", str(out), "--text", "the cat", "--maps", str(tmp_path / "maps.png")]) != 0
    complaints = capsys.readouterr().err
    assert "without attention, so there is nothing to draw" in complaints
    assert "Traceback" not in complaints


@pytest.mark.parametrize("attention", ["luong", "bahdanau"])
def test_maps_are_weights_of_what_is_no_padding(attention):
    config = Seq2SeqRNNConfig(13, 13, 8, 6, 2, attention=attention, dropout=0.5)
    model = Seq2SeqRNN(config, generator=torch.Generator().manual_seed(0))
    source, target = torch.randint(1, 13, (2, 5)), torch.randint(1, 13, (2, 4))
    source[1, 3:] = 0
    weights = attention_maps(model, source, target)
    assert weights.shape == (2, 4, 5)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 4))
    assert (weights[1, :, 3:] == 0).all()
    assert model.training
    with record() as trace:
        pass
    assert len(trace) == 0
    with pytest.raises(ValueError, match="looks at nothing"):
        attention_maps(Seq2SeqRNN(Seq2SeqRNNConfig(13, 13, 8, 6, attention="none")), source, target)
