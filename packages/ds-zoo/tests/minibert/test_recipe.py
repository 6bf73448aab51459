"""What of the recipe `minibert` is its own: what it measures and prints, fine-tuning, predictions, bad input."""

import json
import shutil

import pytest
import safetensors.torch
import torch
import transformers
from ds_core.cli.main import main
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_zoo import MiniBERT, WordPieceTokenizer
from ds_zoo.minibert.evaluation import MaskedScores
from ds_zoo.minibert.predict import load_trained
from tiny_minibert import fine_tuning_words, words, write_labelled, write_text


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder with a text, classified texts, and finished runs of all three kinds, made once."""
    folder = tmp_path_factory.mktemp("runs")
    text, labelled = write_text(folder / "text.txt"), write_labelled(folder / "labelled.jsonl")
    for name, more in {
        "masked": ["--text", text, *words()],
        "pairs": ["--text", text, "--next-sentence", *words(steps=5)],
        "classes": ["--labelled", labelled, "--from-pretrained", folder / "masked", *fine_tuning_words()],
    }.items():
        assert main(["train", "minibert", "--out", f"{folder}/{name}", "--threads", "1", *map(str, more)]) == 0
    return folder


@pytest.fixture
def ds(capsys):
    """Any command; what it returned, printed and complained about."""

    def command(*arguments):
        capsys.readouterr()
        return main([str(argument) for argument in arguments]), *capsys.readouterr()

    return command


@pytest.fixture
def complaint(ds):
    """The one line with which a command is refused."""

    def line(*arguments):
        status, _, complaints = ds(*arguments)
        assert status not in (0, None)
        lines = [line for line in complaints.splitlines() if line.startswith("ds: error:")]
        assert len(lines) == 1, complaints
        assert "Traceback" not in complaints
        return lines[0]

    return line


def test_a_run_measures_what_it_says(runs, ds, tmp_path):
    status, printed, _ = ds("train", "minibert", "--text", runs / "text.txt", "--out", tmp_path / "out", *words())
    assert status == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())["validation"]
    assert results["times_baseline"] == pytest.approx(results["masked_accuracy"] / results["baseline_accuracy"])
    assert f"{results['masked_accuracy']:.1%} are guessed right" in printed
    assert f"guesses {results['baseline_accuracy']:.1%}" in printed
    assert results["perplexity"] > 1


def test_scores():
    scores = MaskedScores(tokens=8, right=2, loss_sum=8.0, baseline_right=1, pairs=4, pairs_right=3)
    assert (scores.accuracy, scores.loss, scores.baseline_accuracy, scores.pair_accuracy) == (0.25, 1.0, 0.125, 0.75)
    assert scores.perplexity == pytest.approx(2.71828, abs=1e-4)


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        ("masked", "BertForMaskedLM"),
        ("pairs", "BertForPreTraining"),
        ("classes", "BertForSequenceClassification"),
    ],
)
def test_transformers_uses_the_run_folder(run, kind, runs):
    theirs, loading = getattr(transformers, kind).from_pretrained(runs / run, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(runs / run)
    inputs = tokenizer(["the cat sat", "a [MASK]"], padding=True, return_tensors="pt")
    ours = MiniBERT.from_pretrained(runs / run).eval()
    found = next(iter(vars(ours(**inputs)).values()))
    torch.testing.assert_close(found, theirs.eval()(**inputs)[0], rtol=1e-4, atol=1e-5)


def test_predict_names_the_likeliest_words(runs, ds):
    status, printed, _ = ds("predict", runs / "masked", "--text", "the [MASK] sat on a [MASK]", "--top", 3)
    assert status == 0
    tokenizer = WordPieceTokenizer.from_pretrained(runs / "masked")
    model = MiniBERT.from_pretrained(runs / "masked").eval()
    inputs = tokenizer.batch(["the [MASK] sat on a [MASK]"])
    probabilities = torch.softmax(model(**inputs).logits[0], -1)
    place = int(torch.nonzero(inputs["input_ids"][0] == tokenizer.mask_id)[1])
    share, number = probabilities[place].max(0)
    tables = printed.strip().split("\n\n")
    assert len(tables) == 2
    assert [len(table.splitlines()) for table in tables] == [4, 4]
    assert tables[1].splitlines()[1].split() == [tokenizer.token(int(number)), f"{float(share):.4f}"]


def test_predict_fills_one_word_in(runs, ds):
    _, printed, _ = ds("predict", runs / "masked", "--text", "the [MASK] sat")
    table, filled = printed.strip().split("\n\n")
    assert len(table.splitlines()) == 6
    word = table.splitlines()[1].split()[0]
    assert filled == (f"the{word[2:]} sat" if word.startswith("##") else f"the {word} sat")


def test_predict_says_whether_a_text_follows(runs, ds):
    status, printed, _ = ds("predict", runs / "pairs", "--text", "the [MASK] sat.", "--pair", "a dog ran.")
    assert status == 0
    assert "the second text follows the first with probability 0." in printed


def test_predict_names_classes(runs, ds):
    status, printed, _ = ds("predict", runs / "classes", "--text", "the cat is good")
    assert status == 0
    assert sorted(line.split()[0] for line in printed.strip().splitlines()[1:]) == ["bad", "good"]


@pytest.mark.parametrize("name", ["masked", "classes"])
def test_predict_with_the_last_weights(runs, ds, name, tmp_path):
    folder = shutil.copytree(runs / name, tmp_path / "run")
    for best in ("best.safetensors", "model.safetensors"):
        (folder / best).unlink()
    assert ds("predict", folder, "--text", "the [MASK] sat", "--weights", "last")[0] == 0
    model, _ = load_trained(folder, "last")
    stored = safetensors.torch.load_file(folder / CHECKPOINT_FILE)
    for parameter, value in model.state_dict().items():
        assert torch.equal(value, stored[f"model.{parameter}"])


def test_the_last_weights_with_lora(runs, ds, tmp_path):
    adapted = ["--from-pretrained", runs / "masked", "--lora-rank", 2, *fine_tuning_words()]
    assert ds("train", "minibert", "--labelled", runs / "labelled.jsonl", "--out", tmp_path / "run", *adapted)[0] == 0
    assert ds("predict", tmp_path / "run", "--text", "the cat", "--weights", "last")[0] == 0
    assert any(name.endswith("lora_b") for name in load_trained(tmp_path / "run", "last")[0].state_dict())


def test_texts_that_predict_cannot_use(runs, complaint):
    masked = runs / "masked"
    assert "predict for which text? give --text TEXT" in complaint("predict", masked)
    assert "--text is empty" in complaint("predict", masked, "--text", " ")
    assert "--text has no [MASK]" in complaint("predict", masked, "--text", "the cat")
    assert "has 22 tokens" in complaint("predict", masked, "--text", "cat " * 20)
    assert "--top: given 0" in complaint("predict", masked, "--text", "a [MASK]", "--top", 0)


def test_folders_that_predict_cannot_use(runs, complaint, tmp_path):
    def damaged(name):
        return shutil.copytree(runs / "masked", tmp_path / name)

    text = ("--text", "a [MASK]")
    other = damaged("other")
    WordPieceTokenizer.train("quite another text", 40).save(other)
    assert "they do not belong together" in complaint("predict", other, *text)
    corrupt = damaged("corrupt")
    weights = (corrupt / "model.safetensors").read_bytes()
    (corrupt / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "is not a whole safetensors file" in complaint("predict", corrupt, *text)
    option = damaged("option")
    fields = json.loads((option / "config.json").read_text())
    (option / "config.json").write_text(json.dumps({**fields, "hidden_act": "relu"}))
    assert "hidden_act is 'relu'" in complaint("predict", option, *text)
    without = damaged("without")
    (without / "model.safetensors").unlink()
    assert "there has been no evaluation yet" in complaint("predict", without, *text)
    lacking = damaged("lacking")
    (lacking / "tokenizer.json").unlink()
    assert "has no tokenizer of BERT's" in complaint("predict", lacking, *text)


@pytest.mark.parametrize("source", ["masked", "pairs", "classes"])
def test_masked_language_modelling_goes_on_from_a_folder(source, runs, ds, tmp_path):
    more = ["--text", runs / "text.txt", "--from-pretrained", runs / source, "--lr", 0.0]
    status, _, _ = ds("train", "minibert", *more, "--out", tmp_path / "out", *fine_tuning_words())
    assert status == 0
    before, after = (MiniBERT.from_pretrained(folder) for folder in (runs / source, tmp_path / "out"))
    weights = [model.bert.blocks[0].attention.in_proj_weight for model in (before, after)]
    assert torch.equal(*weights)  # with a learning rate of 0 it is what it was


@pytest.mark.parametrize("more", [["--lora-rank", 2], ["--layer-decay", 0.5], ["--freeze", "bert.blocks"]])
def test_ways_of_fine_tuning(more, runs, ds, tmp_path):
    given = ["--labelled", runs / "labelled.jsonl", "--from-pretrained", runs / "pairs", *more]
    assert ds("train", "minibert", *given, "--out", tmp_path / "out", *fine_tuning_words())[0] == 0
    before, after = (MiniBERT.from_pretrained(folder) for folder in (runs / "pairs", tmp_path / "out"))
    same = torch.equal(before.bert.blocks[0].norm1.weight, after.bert.blocks[0].norm1.weight)
    assert same == ("--layer-decay" not in more)
    assert after.labels.names == ("bad", "good")
    assert ds("predict", tmp_path / "out", "--text", "good cat")[0] == 0


def test_classes_are_learned(runs, ds, tmp_path):
    given = ["--labelled", runs / "labelled.jsonl", *words(steps=150, evaluate_every=50, lr=1e-2, dropout=0.0)]
    status, printed, _ = ds("train", "minibert", *given, "--out", tmp_path / "out")
    assert status == 0
    assert "100.0% are classified right" in printed
    assert ds("predict", tmp_path / "out", "--text", "the dog ran good")[1].splitlines()[1].startswith("good")


def test_folders_that_cannot_be_fine_tuned(runs, complaint, tmp_path):
    def refused(*more, **options):
        given = ["--text", runs / "text.txt", *more, *fine_tuning_words(**options)]
        return complaint("train", "minibert", "--out", tmp_path / "out", *given)

    assert "--embed-dim contradicts --from-pretrained" in refused("--from-pretrained", runs / "masked", embed_dim=16)
    assert "--max-length 13 is beyond the 12 positions" in refused("--from-pretrained", runs / "masked", max_length=13)
    assert "has no tokenizer of BERT's" in refused("--from-pretrained", tmp_path / "nowhere")
    other = shutil.copytree(runs / "masked", tmp_path / "other")
    WordPieceTokenizer.train("quite another text", 40).save(other)
    assert "they do not belong together" in refused("--from-pretrained", other)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\na b,x\nc d,x\n", "every label is 'x', expected two classes or more"),
        ("a.csv", "text,label\na b,x\nc d,y\ne f,y\n", "there are 3 texts, expected at least 10"),
        ("a.csv", "text,label\na b,0.1\nc d,0.2\n", "no label stands there twice, such as '0.1': expected classes"),
        (
            "a.jsonl",
            '{"text": "a\u2028b", "label": "x"}\n{"text": "a", "label": 1.5}',
            "line 2: expected a text and",
        ),
        ("a.csv", "texts,label\na b,x\n", "there is no column 'text', only texts, label; did you mean texts?"),
        ("a.csv", "text,label\n,x\n", "line 2: the text is empty"),
        ("a.csv", "text,label\na b,\n", "line 2: the label is empty"),
        ("a.jsonl", '{"text": "a"}\n', 'line 1: expected a JSON object such as {"text": "...", "label": "..."}'),
        ("a.jsonl", '{"text": "a", "label": "x"}\nnot json\n', "line 2: expected a JSON object"),
        ("a.jsonl", '{"text": 1, "label": "x"}\n', "line 1: expected a text and a label"),
        ("a.jsonl", "\n\n", "has no texts"),
        ("missing.csv", None, "cannot read"),
    ],
)
def test_labelled_files_that_cannot_be_used(name, content, message, complaint, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    given = ["--labelled", tmp_path / name, "--out", tmp_path / "out", *words()]
    assert message in complaint("train", "minibert", *given)
    assert not (tmp_path / "out").exists()


def test_long_texts_are_cut_and_counted(ds, tmp_path):
    rows = [f"{'cat ' * (20 if number == 3 else 3)}dog,{number % 2}" for number in range(20)]
    (tmp_path / "a.csv").write_text("text,label\n" + "\n".join(rows))
    status, printed, _ = ds("train", "minibert", "--labelled", tmp_path / "a.csv", "--out", tmp_path / "out", *words())
    assert status == 0
    assert "1 of them cut off at 12 tokens" in printed
