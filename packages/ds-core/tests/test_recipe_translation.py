"""What recipes of translation share, with a model that is no Transformer; ds-transformers tests it with one."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from ds_core import TokenCrossEntropy, UserError
from ds_core.errors import MissingPackageError
from ds_core.options import option
from ds_core.recipes.translation.commands import translation_recipe
from ds_core.recipes.translation.options import CommandOptions, TranslationOptions
from ds_core.recipes.translation.run import TranslationRun
from ds_core.testing import check_recipe, report
from ds_core.text.tokenizers import PAD
from ds_core.text.words import WordTokenizer
from word_models import WordModel, sentences


@dataclass
class WordOptions(TranslationOptions):
    out: Path = option(Path("runs/words"), "the run folder", may_change=True)


class WordRun(TranslationRun[WordOptions, WordModel]):
    name = "words"
    options_type = WordOptions

    def build_model(self):
        return WordModel(*self.vocab_sizes, self.options.embed_dim, self.options.dropout)


def check():
    model = WordModel(7, 9, 4)
    source, target = torch.tensor([[3, 4, 2], [5, 2, PAD]]), torch.tensor([[1, 3, 4], [1, 5, PAD]])
    return report(model, (source, target), TokenCrossEntropy(ignore_index=PAD), target.roll(-1, 1))


RECIPE = translation_recipe(WordRun, "a model of words", check)
TINY = "--vocab-size 400 --max-tokens 300 --embed-dim 16 --validation 0.15 --test 0.1 --beam-size 1"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return sentences(tmp_path_factory.mktemp("words") / "pairs.tsv")


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    """A run that has learned its sentences."""
    out = tmp_path_factory.mktemp("run") / "out"
    sizes = {"vocab_size": 400, "max_tokens": 100, "embed_dim": 16, "validation": 0.15, "test": 0.1}
    WordRun.train(WordOptions(pairs=pairs, out=out, epochs=30, lr=5e-2, average=2, dropout=0.0, **sizes))
    return out


def translate(out, **options):
    (command,) = RECIPE.commands
    assert (command.name, command.options) == ("translate", CommandOptions)
    command.run(out, CommandOptions(**options))


def test_another_model_learns_and_translates(trained, capsys):
    assert {path.name for path in trained.iterdir()} == {
        *("checkpoint.safetensors", "best.safetensors", "final.safetensors", "recipe.json", "results.json"),
        *("tokenizer.source.json", "tokenizer.target.json", "log.jsonl", "loss.png"),
    }
    results = json.loads((trained / "results.json").read_text())
    assert results["weights"].startswith("the mean of steps ")
    assert results["validation"]["perplexity"] < 3
    translate(trained, text="cat sees dog")
    assert capsys.readouterr() == ("CAT DOG SEES\n", "")
    translate(trained, text="yak")  # bytes spell any word
    assert capsys.readouterr().err == ""
    found = {}
    for weights in ("final", "best", "last"):
        translator = WordRun.load(trained, weights)
        assert translator.translate(["bee likes emu"], beam_size=1) == ["BEE EMU LIKES"]
        found[weights] = translator.model.projection.weight
    assert not torch.equal(found["final"], found["last"])  # it is the mean of the last two evaluations


def test_a_model_without_attention_has_no_maps(trained, tmp_path):
    with pytest.raises(UserError, match="--maps: a run of words has no attention to draw"):
        translate(trained, text="cat sees dog", maps=tmp_path / "maps.png")


def test_a_model_is_described_by_its_size(pairs, tmp_path):
    run = WordRun(WordOptions(pairs=pairs, out=tmp_path / "out", vocab_size=400, embed_dim=16))
    run.prepare()
    vocabulary, _ = run.vocab_sizes
    count = 16 * vocabulary * 2 + 17 * vocabulary
    assert run.describe().startswith(f"a model with {count:,} parameters learns the pairs of {pairs}: ")
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_said_before_hours_are_spent(pairs, tmp_path, monkeypatch):
    for package in ("sacrebleu", "tokenizers"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(MissingPackageError, match=rf'needs {package}, .*: pip install "ds-core\[text\]"'):
                WordRun.train(WordOptions(pairs=pairs, out=tmp_path / "out", vocab_size=400))
    assert not (tmp_path / "out").exists()


def test_runs_and_tokenizers_of_another_kind(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(WordRun, "name", "letters")
    with pytest.raises(UserError, match="holds a run of words, not of letters"):
        WordRun.load(trained)
    monkeypatch.undo()
    path = trained / "tokenizer.target.json"
    whole = path.read_text()
    try:
        for content in (
            json.dumps({"type": "characters", "characters": "abc"}),
            json.dumps(json.loads(whole)["tokenizer"]),
            WordTokenizer.train("abc", 9).to_json(),
        ):
            path.write_text(content)
            with pytest.raises(UserError, match=r"tokenizer\.target\.json is a tokenizer, but not of a translation"):
                WordRun.load(trained)
    finally:
        path.write_text(whole)


@pytest.mark.parametrize("part", ["gradients", "mistakes", "folder", "killed"])
def test_it_survives_as_every_recipe(part, pairs):
    check_recipe(
        RECIPE,
        f"--pairs {pairs} {TINY} --max-tokens 100 --epochs 2 --average 2 --checkpoint-every 2",
        longer="--epochs 3",
        shorter="--epochs 1",
        changed={"--embed-dim 4": "--embed-dim: given 4, the run began with 16"},
        mistakes={
            "--header --multi30k x": "--pairs and --multi30k contradict each other",
            "--vocab-size 259": "--vocab-size: given 259, expected at least 260 with --vocabulary bpe",
            "--vocabulary words --vocab-size 4": "--vocab-size: given 4, expected at least 5",
            "--vocabulary words --min-frequency 0": "--min-frequency: given 0, expected at least 1",
            "--vocabulary words --min-frequency 999": "--min-frequency 999: no word of the 114 training sentences "
            "occurs as often, so the vocabulary would be empty: give less",
            "--min-frequency 3": "--min-frequency contradicts --vocabulary bpe",
            "--vocabulary word": "did you mean words?",
        },
        parts=[part],
    )


def test_with_a_vocabulary_of_words_it_survives_as_well(pairs):
    check_recipe(
        RECIPE,
        f"--pairs {pairs} {TINY} --vocabulary words --max-tokens 100 --epochs 2 --checkpoint-every 2",
        longer="--epochs 3",
        shorter="--epochs 1",
        changed={"--min-frequency 3": "--min-frequency: given 3, the run began with 2"},
        parts=["killed", "folder"],
    )


def test_a_run_of_words_learns_and_translates_what_it_does_not_know(pairs, tmp_path, capsys):
    out = tmp_path / "out"
    sizes = {"vocab_size": 100, "max_tokens": 100, "embed_dim": 16, "validation": 0.15, "test": 0.1}
    WordRun.train(
        WordOptions(pairs=pairs, out=out, vocabulary="words", epochs=30, lr=5e-2, dropout=0.0, plots=False, **sizes)
    )
    assert "one vocabulary of 24 tokens" in capsys.readouterr().out  # 10 words in either language, and 4 special ones
    source = WordRun.load(out).source_tokenizer
    assert source.tokens(range(4)) == ["<pad>", "<begin>", "<end>", "<unknown>"]
    translate(out, text="cat sees dog")
    assert capsys.readouterr() == ("CAT DOG SEES\n", "")
    (tmp_path / "many.txt").write_text("cat sees gnu\na b c d e a\n", "utf-8")
    reads = "ds: note: unknown to the model, which reads <unknown> instead: "
    for given, lines, note in (
        ({"text": "cat sees gnu"}, 1, "1 of 3 words and marks: gnu\n"),
        ({"text": " gnu  cafe\u0301 yak gnu"}, 1, "4 of 4 words and marks: gnu, caf\u00e9, yak\n"),
        ({"text": "cat\x1b"}, 1, "1 of 2 words and marks: '\\x1b'\n"),
        ({"input": tmp_path / "many.txt"}, 2, "7 of 9 words and marks: gnu, a, b, c, d and 1 more\n"),
    ):
        translate(out, **given)
        written = capsys.readouterr()
        assert (written.out.count("\n"), written.err) == (lines, reads + note)


def test_a_model_that_learned_of_unknown_words_writes_them(tmp_path, capsys):
    nouns, out = [f"x{'abcdefghijklmnopqrstuvwxyz'[number]}" for number in range(26)], tmp_path / "out"
    rows = [f"see {noun} {number}\tSEE {noun.upper()}\n" for noun in nouns for number in (10, 11, 12)]
    (tmp_path / "pairs.tsv").write_text("".join(rows), "utf-8")
    WordRun.train(
        WordOptions(
            pairs=tmp_path / "pairs.tsv", out=out, vocabulary="words", min_frequency=9, vocab_size=100,
            embed_dim=8, epochs=10, lr=5e-2, dropout=0.0, plots=False, validation=0.15, test=0.1, max_tokens=100,
        )
    )  # fmt: skip
    assert "SEE ⁇" in capsys.readouterr().out
    source = WordRun.load(out).source_tokenizer
    assert source.tokens(source.encode("see 21")) == ["▁see", "<unknown>", "1"]  # digit by digit
    translate(out, text="see a gnu")
    assert capsys.readouterr().out == "SEE ⁇\n"
