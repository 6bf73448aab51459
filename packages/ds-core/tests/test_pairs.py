import gzip

import pytest
from ds_core import UserError
from ds_core.text.pairs import Pairs, Split, read_multi30k, read_pairs, split_by_hash
from hypothesis import given, settings
from hypothesis import strategies as st


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_pairs_are_aligned_normal_and_stripped():
    pairs = Pairs([" cafe\u0301 "], ["x\n"])
    assert pairs.source == ["café"]
    assert list(pairs) == [("café", "x")]
    assert len(pairs) == 1
    assert repr(pairs) == "Pairs(1 pairs)"
    with pytest.raises(ValueError, match="given 2 sources and 1 targets"):
        Pairs(["a", "b"], ["c"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'a,A\n"b, c","B ""C"""\n\n d , D \n'),
        ("a.csv", '"a";"A"\n"b, c";"B ""C"""\nd;D'),
        ("a.txt", 'a\tA\n"b, c"\t"B ""C"""\nd\tD\n'),
        ("a.TSV", 'a\tA\r\nb, c\tB "C"\r\n\r\nd\tD\r\n'),
        ("a.tab", 'a\tA\n"b, c"\t"B ""C"""\n"d"\tD\n'),
    ],
)
def test_delimiters_and_quotes(tmp_path, name, text):
    assert read_pairs(write(tmp_path / name, text)) == Pairs(["a", "b, c", "d"], ["A", 'B "C"', "D"])


def test_quotes_that_are_characters(tmp_path):
    path = write(tmp_path / "a.tsv", '"Who?" "Me."\t"Wer?" "Ich."\n"\ta"\n')
    assert read_pairs(path) == Pairs(['"Who?" "Me."', '"'], ['"Wer?" "Ich."', 'a"'])


def test_line_break_inside_quotes(tmp_path):
    path = write(tmp_path / "a.csv", 'a,"A\nA"\nb\n')
    with pytest.raises(UserError, match=r"a\.csv, line 3: 1 column"):
        read_pairs(path)
    assert read_pairs(write(path, 'a,"A\nA"\n')) == Pairs(["a"], ["A\nA"])


def test_header_and_mark_at_the_beginning(tmp_path):
    path = write(tmp_path / "a.csv", "\ufeffen,de\na,A\n")
    assert read_pairs(path) == Pairs(["en", "a"], ["de", "A"])
    assert read_pairs(path, header=True) == Pairs(["a"], ["A"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.csv is empty"),
        ("\n \n", r"a\.csv is empty"),
        ("a,A\nb,B,C\n", r"a\.csv, line 2: 3 column\(s\), expected 2"),
        ("a\n", r"a\.csv, line 1: 1 column"),
        ("a,A\n\nb, \n", r"a\.csv, line 3: the target is empty"),
        (",A\n", r"a\.csv, line 1: the source is empty"),
        (b"a,A\nb,\xff\n", r"a\.csv, line 2: byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbfa,\xff\n", r"a\.csv, line 1: byte 0xff is not UTF-8"),
        ('a,A\n"b,B\n', r'a\.csv, line 2: a quoted field .* never closes, expected a second " at its end$'),
        ('a,A\n\n"b\nb",B\nc,"C\nd,D\ne,E\n', r"a\.csv, line 5: a quoted field of the row that begins there never"),
        ('a,A\n"b"b,B\n', r"a\.csv, line 2: ',' expected after '\"'$"),
    ],
)
def test_faulty_files(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_pairs(write(tmp_path / "a.csv", text))


def test_only_a_header_and_no_file(tmp_path):
    with pytest.raises(UserError, match=r"a\.csv is empty"):
        read_pairs(write(tmp_path / "a.csv", "en,de\n"), header=True)
    with pytest.raises(UserError, match=r"cannot read .*b\.csv: No such file"):
        read_pairs(tmp_path / "b.csv")


def multi30k(folder, validation="val", test="test_2016_flickr"):
    for name, lines in (("train", "a\nb\nc\n"), (validation, "d\n"), (test, "e\nf")):
        write(folder / f"{name}.en", lines)
        write(folder / f"{name}.de", lines.upper())
    return folder


@pytest.mark.parametrize("names", [("val", "test_2016_flickr"), ("valid", "test2016"), ("validation", "test")])
def test_multi30k(tmp_path, names):
    expected = Split(Pairs("abc", "ABC"), Pairs("d", "D"), Pairs("ef", "EF"))
    assert read_multi30k(multi30k(tmp_path, *names), "en", "de") == expected
    path = tmp_path / "train.de"
    write(tmp_path / "train.de.gz", gzip.compress(path.read_bytes()))
    path.unlink()
    assert read_multi30k(tmp_path, "en", "de") == expected
    assert read_multi30k(tmp_path, "de", "en").test == Pairs("EF", "ef")


def test_lines_end_at_line_feeds_alone(tmp_path):
    write(multi30k(tmp_path) / "train.en", "a\u2028a\r\nb\x0bb\r\nc\r\n")
    assert read_multi30k(tmp_path, "en", "de").train.source == ["a\u2028a", "b\x0bb", "c"]
    assert read_pairs(write(tmp_path / "a.tsv", "a\u2028a\tA\nb\tB\x0bB\n")) == Pairs(
        ["a\u2028a", "b"], ["A", "B\x0bB"]
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.de", "A\nB\n", r"train\.en has 3 line\(s\) and .*train\.de has 2, expected as many"),
        ("val.de", "", r"val\.de is empty"),
        ("test_2016_flickr.de", "A\n\n", r"test_2016_flickr\.de, line 2: the line is empty"),
        ("val.en", b"\xe9", r"val\.en, line 1: byte 0xe9 is not UTF-8"),
        ("val.en", None, r"has no val\.en with val\.de or valid\.en with valid\.de or"),
        ("train.de", None, r"has no file train\.de or train\.de\.gz; languages found: en$"),
    ],
)
def test_faulty_multi30k(tmp_path, name, text, message):
    path = multi30k(tmp_path) / name
    path.unlink() if text is None else write(path, text)
    with pytest.raises(UserError, match=message):
        read_multi30k(tmp_path, "en", "de")


def test_multi30k_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"is not a folder; expected one with train\.en, train\.de"):
        read_multi30k(tmp_path / "no", "en", "de")
    with pytest.raises(UserError, match=r"has no file train\.en or .*it has no file train\.LL"):
        read_multi30k(tmp_path, "en", "de")
    with pytest.raises(UserError, match=r"languages found: de, en$"):
        read_multi30k(multi30k(tmp_path), "en", "fr")
    with pytest.raises(UserError, match="'en' as both"):
        read_multi30k(tmp_path, "en", "en")
    write(tmp_path / "val.de.gz", b"not compressed")
    (tmp_path / "val.de").unlink()
    with pytest.raises(UserError, match=r"cannot read .*val\.de\.gz: Not a gzipped file"):
        read_multi30k(tmp_path, "en", "de")


def many(count):
    return Pairs([f"sentence {n}" for n in range(count)], [f"Satz {n}" for n in range(count)])


def test_split_is_disjoint_and_of_the_wanted_shares():
    split = split_by_hash(many(4000), validation=0.1, test=0.05)
    assert len(split.train) + len(split.validation) + len(split.test) == 4000
    assert len(split.validation) == pytest.approx(400, rel=0.15)
    assert len(split.test) == pytest.approx(200, rel=0.15)
    assert not set(split.train.source) & {*split.validation.source, *split.test.source}
    assert split.left_out == 0
    # SHA-256 is SHA-256 anywhere: 0.029, 0.131 and 0.194 of its range
    assert "sentence 10" in split.test.source
    assert "sentence 6" in split.validation.source
    assert "sentence 13" in split.train.source


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(200)), st.integers(50, 200))
def test_a_sentence_goes_to_its_part_in_any_file(order, count):
    whole, some = many(200), many(200)
    some.source = [whole.source[n].upper().replace(" ", "  ") for n in order[:count]]
    some.target = [whole.target[n] for n in order[:count]]
    parts = split_by_hash(whole, 0.2, 0.2)
    for name in ("train", "validation", "test"):
        found = {text.lower().replace("  ", " ") for text in getattr(split_by_hash(some, 0.2, 0.2), name).source}
        assert found == set(getattr(parts, name).source) & {whole.source[n] for n in order[:count]}


def test_a_translation_that_is_held_out_is_not_trained_on():
    pairs = many(300)
    before = split_by_hash(pairs, 0.1, 0.1)
    twin = before.train.source[0]
    pairs.target[pairs.source.index(twin)] = before.test.target[0].upper()
    after = split_by_hash(pairs, 0.1, 0.1)
    assert after.left_out == 1
    assert twin not in after.train.source
    assert len(after.train) == len(before.train) - 1
    assert after.test == before.test
    pairs.target[pairs.source.index(twin)] = before.validation.target[0]
    assert split_by_hash(pairs, 0.1, 0.1).left_out == 1


def test_parts_without_a_share_and_impossible_ones():
    split = split_by_hash(many(5), 0, 0)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [5, 0, 0]
    with pytest.raises(
        UserError, match=r"of 2 pair\(s\) none is left for validation, a share of 0.05; give more pairs"
    ):
        split_by_hash(many(2), 0.05, 0)
    with pytest.raises(UserError, match=r"of 0 pair\(s\) none is left for train, a share of 1; give more pairs$"):
        split_by_hash(many(0), 0, 0)
    repeated = Pairs(["a", "b", "A", " b"] * 15, [f"Satz {n}" for n in range(60)])
    message = (
        r"of 60 pair\(s\) none is left for test, a share of 0.05; only 2 of the sources are distinct, "
        "and equal ones stay together: give more pairs, or a larger share$"
    )
    with pytest.raises(UserError, match=message):
        split_by_hash(repeated, 0, 0.05)
    for shares in ((-0.1, 0.1), (0.1, -0.1), (0.5, 0.5)):
        with pytest.raises(ValueError, match="expected at least 0, sum below 1"):
            split_by_hash(many(9), *shares)
