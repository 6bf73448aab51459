"""Tables of images and captions of the user's own."""

import json

import pytest
import torch
from ds_cnn import write_image
from ds_core import UserError
from ds_zoo.scenes import read_captions


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png", "pictures/c.png"):
        write_image(tmp_path / name, torch.zeros(3, 4, 4))
    return tmp_path


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


ROWS = [("a.png", "a dark one"), ("pictures/c.png", "no, nothing"), ("a.png", "again")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "captions.csv",
            'image,text\na.png, a dark one \npictures/c.png,"no, nothing"\n\na.png,again\n',
        ),
        (
            "metadata.csv",
            '\ufefftext,file_name\na dark one,a.png\n"no, nothing",pictures/c.png\nagain,a.png\n',
        ),
        (
            "pairs.tsv",
            "caption\timage\tid\na dark one\ta.png\t1\nno, nothing\tpictures/c.png\t2\nagain\ta.png\t3\n",
        ),
        ("metadata.jsonl", lines(*({"file_name": image, "text": text, "id": 1} for image, text in ROWS)) + "\n"),
        ("captions.ndjson", lines(*({"image": image, "caption": text} for image, text in ROWS))),
    ],
)
def test_tables(folder, name, content):
    (folder / name).write_text(content, encoding="utf-8")
    found = read_captions(folder / name)
    assert list(found) == [(folder / image, text) for image, text in ROWS]
    assert (len(found), found.table) == (3, folder / name)
    if name.startswith(("metadata", "captions")) and not name.endswith("ndjson"):
        assert read_captions(folder) == found


def test_another_encoding(folder):
    (folder / "captions.csv").write_text("image,text\na.png,ein früher Vogel\n", encoding="latin-1")
    assert read_captions(folder, encoding="latin-1").texts == ("ein früher Vogel",)
    with pytest.raises(UserError, match=r"captions.csv, line 2: byte 0xfc is not UTF-8"):
        read_captions(folder)


def test_the_digest_changes_with_captions_and_images(folder):
    table = folder / "captions.csv"
    digests = set()
    for text in ("one", "two"):
        table.write_text(f"image,text\na.png,{text}\n")
        digests.add(read_captions(table).digest())
    write_image(folder / "a.png", torch.rand(3, 9, 9))
    digests.add(read_captions(table).digest())
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "image,txt\na.png,x\n", "no 'text' or 'caption' among the columns image, txt; did you mean text?"),
        ("t.csv", "picture,text\na.png,x\n", "no 'image' or 'file_name' among the columns picture, text"),
        ("t.csv", "image,text\na.png,x\nb.png,  \n", "line 3: the caption of b.png is empty, expected words"),
        ("t.csv", "image,text\n,x\n", "line 2: no image is named"),
        ("t.csv", "image,text\nz.png,x\n", r"line 2: the image .*z.png is not there"),
        ("t.csv", "image,text\npictures,x\n", r"line 2: the image .*pictures is not there"),
        ("t.csv", "image,text\na.png,x,y\n", "line 2: 3 value"),
        ("t.csv", "image,text\n", "has no rows"),
        ("t.csv", "", "is empty"),
        ("t.jsonl", "", "has no rows, expected images and their captions"),
        ("t.jsonl", "\n \n", "has no rows"),
        ("t.jsonl", '{"image": "a.png", "text": "x"}\n{"image": "a.png"}\n', "line 2: no 'text' or 'caption' among"),
        ("t.jsonl", '{"image": "a.png", "text": "x"\n', "line 1: not JSON"),
        ("t.jsonl", '["a.png", "x"]\n', "line 1: expected an object, such as"),
        ("t.jsonl", '{"image": "a.png", "text": 3}\n', "line 1: the caption is 3, expected a string"),
        ("t.jsonl", '{"image": null, "text": "x"}\n', "line 1: the image is null, expected a string"),
        ("t.jsonl", '{"image": "a.png", "text": ""}\n', "line 1: the caption of a.png is empty"),
        ("t.txt", "image,text\n", "expected a table that ends with .csv"),
    ],
)
def test_bad_tables(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_captions(folder / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_that_is_not_utf8(folder):
    (folder / "t.jsonl").write_bytes(b'{"image": "a.png", "text": "x"}\n{"image": "a.png", "text": "\xfc"}\n')
    with pytest.raises(UserError, match=r"t.jsonl, line 2: byte 0xfc is not utf-8"):
        read_captions(folder / "t.jsonl")


def test_folders(folder, tmp_path):
    with pytest.raises(UserError, match=r"holds none of metadata.csv, metadata.jsonl, captions.csv, captions.jsonl"):
        read_captions(folder)
    for name in ("metadata.csv", "captions.jsonl"):
        (folder / name).write_text("")
    with pytest.raises(UserError, match=r"holds metadata.csv and captions.jsonl, expected one table"):
        read_captions(folder)
    with pytest.raises(UserError, match="no such file or folder"):
        read_captions(folder / "missing")


def test_a_number_that_python_does_not_read(tmp_path):
    table = tmp_path / "t.jsonl"
    table.write_text('{"image": "a.png", "text": ' + "1" * 5000 + "}\n")
    with pytest.raises(UserError, match=r"t.jsonl, line 1: (not JSON \(Exceeds the limit|the caption is 1)"):
        read_captions(table)
