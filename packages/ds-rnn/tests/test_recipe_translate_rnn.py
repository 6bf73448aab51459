"""The recipe `translate-rnn` through everything that a recipe must survive, and what of it is its own."""

import pytest
import torch
from ds_core import record
from ds_core.cli.main import main
from ds_core.testing import RECIPE_PARTS, check_recipe
from ds_core.text.words import WordTokenizer
from ds_core.training.history import read_log
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
            "--attention none": "--attention: given none, the run began with bahdanau",
            "--teacher-forcing 0.5": "--teacher-forcing: given 0.5, the run began with 1.0",
            "--vocabulary words": "--vocabulary: given words, the run began with bpe",
        },
        other_data=f"--pairs {files}/other.tsv",
        mistakes={
            "--attention lunog": "did you mean luong?",
            "--cell rnn": "--cell: given 'rnn', expected one of lstm, gru",
            "--hidden-size 0": "--hidden-size: given 0, expected at least 1",
            "--preset multi30": "did you mean multi30k?",
            "--vocabulary word": "--vocabulary: given 'word', expected one of bpe, words",
            "--min-frequency 3": "--min-frequency contradicts --vocabulary bpe",
            "--vocabulary words --min-frequency 999": "--min-frequency 999: no word of the ",
            "--schedule noam": "--schedule noam needs --lr",
            "--teacher-forcing 1.5": "--teacher-forcing: given 1.5, expected at most 1",
            "--forcing-schedule exponential": "needs --teacher-forcing between 0 and 1, given 1: ",
            "--teacher-forcing 0 --forcing-schedule inverse-sigmoid": "--forcing-schedule inverse-sigmoid needs",
            "--source-language de": "--source-language and --target-language are both 'de'",
        },
        together="--dtype float64 --dropout 0",
        parts=[part],
    )


@pytest.mark.parametrize("part", ["refused", "longer", "interrupt", "killed"])
def test_a_schedule_of_teacher_forcing_survives_too(part, files):
    """The draws and the share are those of the unbroken run. Several processes each draw their own, as for dropout."""
    options = words(TRANSLATE_RNN, epochs=3, checkpoint_every=2, teacher_forcing=0.2)
    check_recipe(
        "translate-rnn",
        ["--pairs", f"{files}/sentences.tsv", *options, "--forcing-schedule", "exponential"],
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={"--forcing-schedule linear": "given linear, the run began with exponential"},
        other_data=f"--pairs {files}/other.tsv",
        parts=[part],
    )


def test_the_share_of_true_tokens_is_told_and_logged(files, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--pairs", f"{files}/sentences.tsv", "--out", str(out), "--no-plots"]
    options = words(TRANSLATE_RNN, teacher_forcing=0.25, forcing_schedule="exponential", attention="bahdanau")
    assert main(["train", "translate-rnn", *given, *options]) == 0
    assert "; the share of true tokens given to the decoder falls to 0.25 (exponential); on " in capsys.readouterr().out
    records = list(read_log(out / "log.jsonl"))
    shares = [record["share"] for record in records if record["kind"] == "teacher_forcing"]
    steps = len([record for record in records if record["kind"] == "train"])
    assert shares == pytest.approx([0.25 ** (step / steps) for step in range(steps)])
    assert TranslateRNNRun.load(out).model.teacher_forcing == 1


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


@pytest.mark.parametrize("shared", ["--share-vocabulary", "--no-share-vocabulary"])
def test_a_vocabulary_of_words_translates_what_it_does_not_know(files, tmp_path, capsys, shared):
    out, maps = tmp_path / "out", tmp_path / "maps.png"
    given = ["--pairs", f"{files}/sentences.tsv", "--out", str(out), "--vocabulary", "words", "--min-frequency", "5"]
    options = words(TRANSLATE_RNN, vocab_size=40, checkpoint_every=2)
    assert main(["train", "translate-rnn", *given, shared, *options]) == 0
    assert main(["train", "translate-rnn", "--out", str(out), "--resume", "--epochs", "3"]) == 0
    translator = TranslateRNNRun.load(out)
    source, target = translator.source_tokenizer, translator.target_tokenizer
    assert isinstance(source, WordTokenizer)
    assert "▁the" in source.tokens(range(source.vocab_size))
    assert source.vocab_size < 25
    assert (source.to_json() == target.to_json()) == (shared == "--share-vocabulary")
    assert source.decode(source.encode("the zebra sees the dog.")) == "the ⁇ sees the dog."
    capsys.readouterr()
    for sentence in ("the cat sees the dog.", "the zebra sees the dog.", "Two zebras quarrel", "😀 <end>"):
        for beam_size in ("1", "3"):
            assert main(["translate", str(out), "--text", sentence, "--beam-size", beam_size]) == 0
            assert capsys.readouterr().out.count("\n") == 1
    assert main(["translate", str(out), "--text", "the zebra sees the dog.", "--maps", str(maps)]) == 0
    assert maps.read_bytes().startswith(b"\x89PNG")


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
