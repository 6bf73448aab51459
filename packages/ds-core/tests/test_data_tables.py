"""Columns of text as tensors."""

import pytest
import torch
from ds_core import UserError
from ds_core.data import TensorDataset, read_csv
from ds_core.data.tables import read_column

FLOWERS = """\
length,colour,petals,kind
1.5,red,5,rose
2.5,blue,7,iris
3,red,6,rose
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="flowers.csv"):
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path / name

    return write


def test_numbers_categories_and_classes(written):
    table = read_csv(written(FLOWERS), "kind")
    assert table.feature_names == ("length", "colour=blue", "colour=red", "petals")
    assert table.inputs.tolist() == [[1.5, 0, 1, 5], [2.5, 1, 0, 7], [3, 0, 1, 6]]
    assert table.target.tolist() == [1, 0, 1]
    assert (table.inputs.dtype, table.target.dtype) == (torch.float32, torch.int64)
    assert (table.task, table.class_names, table.target_name) == ("classification", ("iris", "rose"), "kind")
    assert table.categories == {"colour": ("blue", "red")}
    assert (table.columns, table.encode, table.dropped) == (("length", "colour", "petals"), "one_hot", 0)
    assert isinstance(table.dataset(), TensorDataset)
    assert torch.equal(table.dataset().tensors[0], table.inputs)
    assert torch.equal(table.dataset().tensors[1], table.target)


def test_codes(written):
    table = read_csv(written(FLOWERS), encode="codes", dtype=torch.float64)
    assert table.feature_names == ("length", "colour", "petals")
    assert table.inputs.tolist() == [[1.5, 1, 5], [2.5, 0, 7], [3, 1, 6]]
    assert table.inputs.dtype == torch.float64


@pytest.mark.parametrize("target", ["petals", 2, -2])
def test_regression(written, target):
    table = read_csv(written(FLOWERS), target, ignore=["length", -1], device="meta")
    assert (table.task, table.class_names, table.target_name) == ("regression", None, "petals")
    assert table.columns == ("colour",)
    assert {table.inputs.device.type, table.target.device.type} == {"meta"}
    assert table.target.dtype == torch.float32
    assert read_csv(written(FLOWERS), target).target.tolist() == [5, 7, 6]
    assert read_csv(written(FLOWERS), target, dtype=torch.float64).target.dtype == torch.float64


def test_numbers_as_classes_and_as_categories(written):
    path = written("code,answer\n10,2\n9,10\n9,1\n")
    assert read_csv(path).task == "regression"
    table = read_csv(path, task="classification", categorical=["code"])
    assert table.class_names == ("1", "2", "10")  # by size
    assert table.target.tolist() == [1, 2, 0]
    assert table.categories == {"code": ("9", "10")}
    assert table.inputs.tolist() == [[0, 1], [1, 0], [1, 0]]


def test_another_file_like_the_first(written):
    train = read_csv(written(FLOWERS), "kind", encode="codes", ignore=["petals"])
    test = read_csv(written("kind,extra,length,colour\niris,?,2,red\n", "test.csv"), like=train)
    assert test.inputs.tolist() == [[2, 1]]
    assert test.target.tolist() == [0]
    assert (test.columns, test.class_names) == (train.columns, train.class_names)
    assert (test.feature_names, test.categories, test.encode) == (train.feature_names, train.categories, "codes")
    number = read_csv(written("a,b\n1,1\n2,2\n"), categorical=["a"], task="classification")
    same = read_csv(written("a,b\n2,1\n"), like=number)
    assert (same.inputs.tolist(), same.task, same.class_names) == ([[0, 1]], "classification", ("1", "2"))
    plain = read_csv(written("a,b\n1,1\n2,2\n"))
    assert read_csv(written("b,a\n1.5,2\n"), like=plain).target.tolist() == [1.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("length,colour\n1,red\n", "has no column 'kind'"),
        ("length,color,kind\n1,red,rose\n", "has no column 'colour'; did you mean color"),
        (
            "kind,colour,length\nrose,red,1\niris,grey,1\n",
            "line 3, column 2, 'colour': 'grey' is none of .*blue, red",
        ),
        ("kind,colour,length\nrose,red,1\npoppy,red,1\n", "line 3, column 1, 'kind': 'poppy' is none of .* iris, rose"),
        ("kind,colour,length\nrose,red,long\n", "line 2, column 3, 'length': given 'long', expected a finite number"),
    ],
)
def test_another_file_unlike_the_first(written, text, message):
    train = read_csv(written(FLOWERS), "kind", ignore=["petals"])
    with pytest.raises(UserError, match=message):
        read_csv(written(text, "test.csv"), like=train)


@pytest.mark.parametrize("value", ["", "?", "NA", "nan"])
@pytest.mark.parametrize(("place", "name"), [(0, "length"), (1, "colour"), (3, "kind")])
def test_a_missing_value(written, place, name, value):
    row = ["4", "blue", "8", "iris"]
    row[place] = value
    path = written(FLOWERS + ",".join(row) + "\n4,blue\n", "ragged.csv")
    shown = f" but '{value}'" if value else ""
    expected = f"flowers.csv, line 5, column {place + 1}, '{name}': no value{shown} (drop_faulty, --drop-faulty on "
    with pytest.raises(UserError) as error:
        read_csv(written(FLOWERS + ",".join(row) + "\n"))
    assert expected in str(error.value)
    table = read_csv(path, drop_faulty=True)
    assert (len(table.target), len(table.inputs), table.dropped) == (3, 3, 2)


def test_what_stands_for_a_missing_value(written):
    path = written("country,y\nNA,1\nDE,2\n")
    assert read_csv(path, missing=("",)).categories == {"country": ("DE", "NA")}
    assert read_csv(path, missing=("DE",), drop_faulty=True).target.tolist() == [1]


def test_values_may_be_missing_where_they_are_ignored(written):
    assert read_csv(written("a,b,c\n1,,3\n"), ignore=["b"]).inputs.tolist() == [[1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,1\n2,1\nx,1\n", "line 4, column 1, 'a': 'x' is no number, as those before are; categorical=.'a'."),
        ("a,b\nx,1\n2,1\n", "line 3, column 1, 'a': '2' is a number, and those before are not"),
        ("a,b\n1,1\n1,x\n", "line 3, column 2, 'b': 'x' is no number, .*task='classification'"),
        ("a,b\n1,1\ninf,1\n", "line 3, column 1, 'a': given 'inf', expected a finite number"),
        ("a,b\n1,1\n1,1_0\n", "line 3, column 2, 'b': '1_0' is no number"),
        ("a\n1\n", "has no column but the target 'a'"),
        ("a,b\n1,?\n", r"line 2, column 2, 'b': no value but '\?'"),
    ],
)
def test_columns_that_do_not_fit(written, text, message):
    with pytest.raises(UserError, match=message):
        read_csv(written(text))


def test_nothing_left(written):
    with pytest.raises(UserError, match="has no rows but 2 faulty ones"):
        read_csv(written("a,b\n1,?\n?,1\n"), drop_faulty=True)


def test_columns_that_are_not_there(written):
    path = written(FLOWERS)
    with pytest.raises(UserError, match="has no column 'lenght'; did you mean length"):
        read_csv(path, ignore=["lenght"])
    with pytest.raises(UserError, match=r"has 4 column\(s\), given number 4, expected -4 to 3"):
        read_csv(path, 4)
    with pytest.raises(UserError, match="given number -5"):
        read_csv(path, categorical=[-5])


@pytest.mark.parametrize("options", [{"task": "clustering"}, {"encode": "ones"}])
def test_impossible_options(written, options):
    with pytest.raises(ValueError, match="expected classification or regression, and one_hot or codes"):
        read_csv(written(FLOWERS), **options)


def test_options_of_the_file(written):
    table = read_csv(written("1:2\n3:4\n"), delimiter=":", header=False)
    assert table.feature_names == ("column 1",)
    assert table.target.tolist() == [2, 4]


@pytest.mark.parametrize(("target", "place"), [("b", "line 4, column 1, 'a'"), ("a", "line 3, column 2, 'b'")])
def test_numbers_that_the_dtype_cannot_hold(written, target, place):
    path = written("a,b\n1,2\n3,-1e39\n1e39,4\n")
    with pytest.raises(UserError, match=f"{place}: given '-?1e39', too large for torch.float32"):
        read_csv(path, target)
    assert read_csv(path, target, dtype=torch.float64).inputs.abs().max() == 1e39


def test_one_column_in_the_order_of_its_rows(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text("time,load,price\n1,3,0.5\n\n2,1,-2\n3,2,1e3\n")
    values, name = read_column(path, dtype=torch.float64)
    assert (values.tolist(), name) == ([0.5, -2.0, 1000.0], "price")
    assert read_column(path, "load")[0].tolist() == [3, 1, 2]
    assert read_column(path, 0)[1] == "time"
    with pytest.raises(UserError, match="'loads'"):
        read_column(path, "loads")
    for value in ("", "x", "inf"):
        path.write_text(f"time,load\n1,3\n2,{value}\n")
        with pytest.raises(UserError, match=r"line 3.*load.*expected a finite number"):
            read_column(path)
    path.write_text("time,load\n1,3\n2\n")
    with pytest.raises(UserError, match=r"line 3: 1 value\(s\), expected 2, so that 'load' has none$"):
        read_column(path)
    path.write_text("time,load\n")
    with pytest.raises(UserError, match="has no rows below its header"):
        read_column(path)
