"""`ds translate`, and `TranslateRun.load` and `Translator` under it."""

import io
import json

import pytest
import torch
from ds_core.recipes.translation import translator as translator_module
from ds_core.recipes.translation.corpus import source_tokens
from ds_core.text.decoding.beam_search import beam_search
from ds_core.text.decoding.greedy import greedy
from ds_core.training.checkpoint import read_weights
from ds_transformers.translation.recipe import TranslateRun

TEXTS = ["the cat sees the dog.", "the fish hears the cow.", "the bird likes the bird."]
TRANSLATIONS = ["Katze sieht Hund.", "Fisch hört Kuh.", "Vogel mag Vogel."]


class Typed(io.StringIO):
    """Standard input, at a terminal or not."""

    def __init__(self, text, terminal):
        super().__init__(text)
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def test_one_sentence(ds, trained):
    for more in ([], ["--beam-size", 1], ["--weights", "best"], ["--weights", "last"], ["--threads", 1]):
        assert ds("translate", trained, "--text", TEXTS[0], *more) == (0, TRANSLATIONS[0] + "\n", "")
    assert ds("translate", trained, "--text", f"  {TEXTS[0]} ")[1] == TRANSLATIONS[0] + "\n"
    cut = ds("translate", trained, "--text", TEXTS[0], "--max-length", 2)[1].rstrip("\n")
    assert 0 < len(cut) < len(TRANSLATIONS[0])
    assert TRANSLATIONS[0].startswith(cut)


def test_files(ds, trained, tmp_path):
    source, target = tmp_path / "source.txt", tmp_path / "target.txt"
    for text in ("\n".join(TEXTS), "\r\n".join(TEXTS) + "\r\n", "\ufeff" + "\n".join(TEXTS)):
        source.write_bytes(text.encode())
        assert ds("translate", trained, "--input", source, "--output", target, "--batch-size", 2) == (0, "", "")
        assert target.read_text("utf-8").splitlines() == TRANSLATIONS
    assert ds("translate", trained, "--input", source)[1].splitlines() == TRANSLATIONS
    assert ds("translate", trained, "--input", source, "--output", source)[0] == 0
    assert source.read_text("utf-8").splitlines() == TRANSLATIONS


def test_a_character_that_python_takes_for_a_line_end_ends_no_line(ds, trained, tmp_path):
    source = tmp_path / "source.txt"
    source.write_text("the cat\u2028sees the dog.\nthe\x85cow.\n", "utf-8")
    assert ds("translate", trained, "--input", source)[1].count("\n") == 2


def test_a_line_break_in_a_translation_stays_in_its_line(ds, trained, monkeypatch):
    class Breaking:
        source_tokenizer = None

        def translate(self, sentences, **options):
            return ["one\ntwo\u2028three\r\nfour" for _ in sentences]

    monkeypatch.setattr(TranslateRun, "load", lambda *_: Breaking())
    assert ds("translate", trained, "--text", "something")[1] == "one two three four\n"


def test_standard_input(ds, trained, monkeypatch, tmp_path):
    given = "\n".join(TEXTS) + "\n"
    monkeypatch.setattr("sys.stdin", Typed(given, False))
    assert ds("translate", trained) == (0, "\n".join(TRANSLATIONS) + "\n", "")
    monkeypatch.setattr("sys.stdin", Typed(f"{TEXTS[0]}\n\n{TEXTS[1]}\n", True))
    status, printed, notes = ds("translate", trained)
    assert (status, printed) == (0, f"{TRANSLATIONS[0]}\n{TRANSLATIONS[1]}\n")
    assert "Ctrl-D ends" in notes
    # what is typed goes to the file too
    monkeypatch.setattr("sys.stdin", Typed(given, True))
    assert ds("translate", trained, "--output", tmp_path / "target.txt")[0] == 0
    assert (tmp_path / "target.txt").read_text("utf-8").splitlines() == TRANSLATIONS


def test_maps(ds, trained, tmp_path):
    status, printed, notes = ds("translate", trained, "--text", TEXTS[0], "--maps", tmp_path / "maps.png")
    assert (status, printed) == (0, TRANSLATIONS[0] + "\n")
    assert f"attention of the first translation: {tmp_path}/maps.png" in notes
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_options_reach_the_search(trained, ds, monkeypatch):
    seen = []

    class Watched:
        source_tokenizer = None

        def translate(self, sentences, **options):
            seen.append(options)
            return sentences

    monkeypatch.setattr(TranslateRun, "load", lambda *_: Watched())
    given = ["--beam-size", 7, "--length-penalty", 0.25, "--max-length", 9, "--batch-size", 3]
    assert ds("translate", trained, "--text", "x", *given)[0] == 0
    assert seen == [{"beam_size": 7, "length_penalty": 0.25, "max_length": 9, "batch_size": 3}]


@pytest.fixture
def translator(trained):
    return TranslateRun.load(trained)


def test_order_and_batches_change_nothing(translator):
    texts = [*TEXTS, "the", "the cat sees the dog. the cat sees the dog.", "", "日本 🦊"] * 2
    together = translator.translate(texts, batch_size=5)
    assert together[:3] == together[7:10] == TRANSLATIONS
    assert together == [translator.translate([text], batch_size=1)[0] for text in texts]
    assert translator.translate([]) == []


@pytest.mark.parametrize("beam_size", [1, 4])
def test_it_is_the_search_over_tokens(translator, beam_size):
    """At most 50 tokens more than the source, which ends in its end token."""
    with torch.no_grad():
        translator.model.target_tokens.weight[2] = -translator.model.target_tokens.weight[2]  # it ends nothing any more
    first, other = TEXTS[0], "the cow."
    found = translator.translate([first, other], beam_size=beam_size, length_penalty=0.3)
    for text, translation in zip([first, other], found, strict=True):
        source = torch.tensor([[*translator.source_tokenizer.encode(text), 2]])
        options = {"begin": 1, "end": 2, "pad": 0, "max_length": source.shape[1] + 50}
        if beam_size == 1:
            (tokens,) = greedy(translator.model, source, **options)
        else:
            tokens = beam_search(translator.model, source, beam_size=4, length_penalty=0.3, **options)[0].tokens
        assert translation == translator.target_tokenizer.decode(tokens)
    assert len(translator.target_tokenizer.encode(found[0])) > len(translator.source_tokenizer.encode(first))


def test_the_weights_asked_for(trained):
    weights = {name: TranslateRun.load(trained, name).model.state_dict() for name in ("final", "best", "last")}
    for name, file in [("final", "final"), ("best", "best"), ("last", "checkpoint")]:
        stored = read_weights(trained / f"{file}.safetensors")
        assert all(torch.equal(stored[key], tensor) for key, tensor in weights[name].items())
    assert not torch.equal(weights["final"]["source_tokens.weight"], weights["last"]["source_tokens.weight"])


def test_dtype_and_recompute_of_the_run(trained):
    record = json.loads((trained / "recipe.json").read_text())
    record["options"] |= {"dtype": "float64", "recompute": True}
    (trained / "recipe.json").write_text(json.dumps(record))
    translator = TranslateRun.load(trained)
    assert translator.model.source_tokens.weight.dtype == torch.float64
    assert translator.model.transformer.decoder.recompute is False
    assert translator.translate(TEXTS) == TRANSLATIONS


def test_the_length_penalty_reaches_the_search(translator, monkeypatch):
    seen = []

    def watched(*arguments, **options):
        seen.append(options["length_penalty"])
        return beam_search(*arguments, **options)

    monkeypatch.setattr(translator_module, "beam_search", watched)
    translator.translate(TEXTS, length_penalty=1.75, batch_size=2)
    translator.translate(TEXTS)
    assert seen == [1.75, 1.75, 0.6]


def test_blanks_around_a_sentence_are_left_out(translator):
    """As they were of the pairs that the model learned from."""
    tokens = source_tokens(translator.source_tokenizer, ["the cat.", " the cat.\t"])
    assert tokens[0] == tokens[1] == [*translator.source_tokenizer.encode("the cat."), 2]


def test_padded(translator):
    assert translator.padded([[5, 6, 7], [8]]).tolist() == [[5, 6, 7], [8, 0, 0]]
    assert translator.padded([]).shape == (0, 0)


def test_training_mode_is_given_back(translator):
    translator.model.train()
    translator.translate(TEXTS)
    assert translator.model.transformer.training
