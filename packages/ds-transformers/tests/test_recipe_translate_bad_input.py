"""Mistakes of the person at the command line, and of their disk: one clear line each, and nothing lost."""

import json
import resource

import pytest
import torch
from ds_core.testing.recipe import damaged_checkpoints
from ds_core.training.run_folder import CHECKPOINT_FILE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\xef\xbb\xbfa\tb\nc\t\xe9\n", "line 2: byte 0xe9 is not UTF-8"),
        (b"a\tb\nc\n", "line 2: 1 column(s), expected 2"),
        (b"a\tb\nc\td\te\n", "line 2: 3 column(s), expected 2"),
        (b"a\tb\nc\t \n", "line 2: the target is empty"),
        (b"a\tb\n\td\n", "line 2: the source is empty"),
        (b"a\tb\n", "of 1 pair(s) none is left for validation, a share of 0.15; give more pairs, or a larger share"),
    ],
)
def test_pairs_that_cannot_be_learned(data, message, run, sentences, tmp_path, complaint):
    sentences.write_bytes(data)
    result = run()
    assert message in complaint(result)
    assert result[0] == 2
    assert not (tmp_path / "out").exists()


def test_pairs_that_are_not_there(run, sentences, tmp_path, complaint):
    sentences.unlink()
    assert f"cannot read {sentences}: No such file" in complaint(run())
    assert "cannot read" in complaint(run(pairs=tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_share_that_no_pair_falls_into(run, complaint):
    assert "none is left for test, a share of 0.001" in complaint(run(test=0.001))
    assert "none is left for validation, a share of 0.001" in complaint(run(validation=0.001))


def multi30k(folder, **changes):
    counts = {"train": 20, "val": 5, "test_2016_flickr": 4}
    folder.mkdir(exist_ok=True)
    for part, count in counts.items():
        for language in ("de", "en"):
            text = "".join(f"{language} {number}\n" for number in range(count))
            (folder / f"{part}.{language}").write_bytes(changes.get(f"{part}.{language}", text.encode()))
    return folder


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("train.de", b"eins\nzwei\n", "train.de has 2 line(s) and "),
        ("val.en", b"one\n" * 1234, "val.en has 1,234, expected as many"),
        ("val.en", b"", "val.en is empty"),
        ("train.en", b"one\n\n" + b"two\n" * 18, "train.en, line 2: the line is empty"),
        ("test_2016_flickr.de", b"eins\n\xff\n", "test_2016_flickr.de, line 2: byte 0xff is not UTF-8"),
    ],
)
def test_multi30k_files_that_do_not_fit(file, data, message, run, tmp_path, complaint):
    folder = multi30k(tmp_path / "files", **{file: data})
    languages = {"source_language": "de", "target_language": "en"}
    assert message in complaint(run(pairs=None, multi30k=folder, **languages))
    assert not (tmp_path / "out").exists()


def test_both_counts_are_named(run, tmp_path, complaint):
    folder = multi30k(tmp_path / "files", **{"train.de": b"x\n" * 19})
    line = complaint(run(pairs=None, multi30k=folder, source_language="de", target_language="en"))
    assert f"{folder}/train.de has 19 line(s) and {folder}/train.en has 20, expected as many" in line


def test_multi30k_files_that_are_not_there(run, tmp_path, complaint):
    folder = multi30k(tmp_path / "files")
    given = {"pairs": None, "multi30k": folder, "target_language": "en"}
    assert "has no file train.fr or train.fr.gz; languages found: de, en" in complaint(
        run(source_language="fr", **given)
    )
    (folder / "val.de").unlink()
    assert "has no val.de with val.en or " in complaint(run(source_language="de", **given))
    assert "nothing is not a folder" in complaint(
        run(**{**given, "multi30k": tmp_path / "nothing"}, source_language="de")
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--source-language", "it"], "no sentences are shipped in 'it'"),
        (["--target-language", "german"], "did you mean German?"),
        (["--header"], "--header is about --pairs, which is not given"),
    ],
)
def test_shipped_sentences_that_are_not(more, message, run, tmp_path, complaint):
    result = run(*more, pairs=None)
    assert message in complaint(result)
    assert result[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["truncated", "empty", "corrupt", "noise", "newer", "foreign"])
def test_damaged_checkpoints(kind, ds, trained, complaint):
    for name, weights in ((CHECKPOINT_FILE, "last"), ("best.safetensors", "best"), ("final.safetensors", "final")):
        path = trained / name
        whole = path.read_bytes()
        content = damaged_checkpoints(whole)[kind]
        path.write_bytes(content)
        if weights == "last":
            assert name in complaint(ds("train", "translate", "--out", trained, "--resume", "--epochs", 41))
        assert name in complaint(ds("translate", trained, "--weights", weights, "--text", "the cat"))
        assert path.read_bytes() == content
        path.write_bytes(whole)
    assert ds("translate", trained, "--text", "the cat")[0] == 0


def test_weights_of_another_model(run, ds, trained, tmp_path, complaint):
    assert run(embed_dim=4, average=2)[0] == 0
    for name in (CHECKPOINT_FILE, "final.safetensors"):
        (trained / name).write_bytes((tmp_path / "out" / name).read_bytes())
    assert "another model" in complaint(ds("train", "translate", "--out", trained, "--resume", "--epochs", 41))
    assert "another model" in complaint(ds("translate", trained, "--text", "the cat"))


@pytest.mark.parametrize("name", ["tokenizer.source.json", "tokenizer.target.json", "recipe.json"])
def test_damaged_files_beside_the_weights(name, ds, trained, complaint, content):
    whole = (trained / name).read_bytes()
    use, resume = ("translate", trained, "--text", "the cat"), ("train", "translate", "--out", trained, "--resume")
    for data in (whole[:-9], b"", b"\xff\xfe", b"[]", json.dumps({"model": 3}).encode()):
        (trained / name).write_bytes(data)
        before = content(trained)
        assert name in complaint(ds(*use))
        assert name in complaint(ds(*resume, "--epochs", 41))
        assert content(trained) == before
    (trained / name).unlink()
    assert name in complaint(ds(*use))
    assert name in complaint(ds(*resume, "--epochs", 41))


def test_a_loss_that_turns_nan_keeps_the_checkpoint(run, tmp_path, complaint, trained_weights):
    result = run(lr=1e30, warmup_steps=1, epochs=9, checkpoint_every=1, clip_norm=0)
    assert result[0] == 1
    assert "not finite" in complaint(result)
    assert all(torch.isfinite(tensor).all() for tensor in trained_weights(tmp_path / "out").values())


def test_a_full_disk_keeps_the_last_checkpoint(ds, trained, complaint, trained_weights, equal):
    before = {
        name: trained_weights(trained, name) for name in (CHECKPOINT_FILE, "best.safetensors", "final.safetensors")
    }
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resume = ("train", "translate", "--out", trained, "--resume", "--epochs")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # no file may grow beyond this
    try:
        results = [ds(*resume, 41), ds(*resume, 40)]  # at a checkpoint, and at the final weights
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for result in results:
        assert result[0] == 1
        assert "cannot write" in complaint(result)
    assert all(equal(trained_weights(trained, name), weights) for name, weights in before.items())
    assert ds(*resume, 41)[0] == 0


def test_more_processes_than_a_batch_has_rows(sentences, tiny):
    from ds_core import UserError
    from ds_core.recipes.translation.corpus import read_corpus
    from ds_transformers.translation.options import TranslateOptions

    corpus = read_corpus(TranslateOptions(pairs=sentences, vocab_size=280))
    with pytest.raises(UserError, match=r"--max-tokens 100: TokenBatches: the smallest batch has \d row\(s\)"):
        corpus.batches(corpus.parts.train, 100, torch.device("cpu"), world_size=30)
