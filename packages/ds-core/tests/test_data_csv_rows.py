"""CSV files as rows of text."""

import csv

import pytest
from ds_core import UserError
from ds_core.data.csv_rows import is_number, read_rows
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st


@pytest.fixture
def written(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_rows_and_names(written):
    rows = read_rows(written("a, b ,c\r\n1, 2,x\r\n\r\n3,4,y z \r\n"))
    assert rows.names == ["a", "b", "c"]
    assert rows.values == [["1", "2", "x"], ["3", "4", "y z"]]
    assert rows.lines == [2, 4]
    assert rows.dropped == 0


def test_without_a_header(written):
    path = written("1,x\n2,y\n")
    rows = read_rows(path)
    assert (rows.names, len(rows.values), rows.lines) == (["column 1", "column 2"], 2, [1, 2])
    assert read_rows(path, header=True).names == ["1", "x"]
    named = written("a,b\nc,d\n")
    assert read_rows(named).names == ["a", "b"]
    assert read_rows(named, header=False).values == [["a", "b"], ["c", "d"]]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x|y,z\na;b,1\n", ["a;b", "1"]),
        ("x;y\n1,5;2,5\n", ["1,5", "2,5"]),
        ("x\tz;w\na,b\tc\n", ["a,b", "c"]),
        ("x|y|z\n1,2|3|4;5\n", ["1,2", "3", "4;5"]),
        ("1,2\n", ["1", "2"]),
        ('"a;b";c\n"1,2";3\n', ["1,2", "3"]),
        ("a|b,c,d\n1,2,3\n4,5,6|7\n", ["1", "2", "3"]),  # more rows have as many commas as the first
    ],
)
def test_the_delimiter_is_found(written, text, values):
    assert read_rows(written(text)).values[0] == values


def test_a_given_delimiter(written):
    assert read_rows(written("a;b,c\n1;2,3\n"), delimiter=";").values == [["1", "2,3"]]
    assert read_rows(written("a:b\n1:2\n"), delimiter=":").values == [["1", "2"]]
    with pytest.raises(UserError, match="given delimiter '::', expected one character"):
        read_rows(written("a\n1\n"), delimiter="::")


def test_one_column(written):
    assert read_rows(written("a\n1\n2\n")).values == [["1"], ["2"]]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.text("ab ,;\"'\n|", max_size=4), min_size=2, max_size=2), min_size=1, max_size=4),
    st.sampled_from(",;\t|"),
)
@example([['"', "\n"]], ",")
def test_what_the_csv_module_writes_is_read(written, table, delimiter):
    path = written("")
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([["x", "y"], *table])
    assert read_rows(path, delimiter=delimiter).values == [[value.strip() for value in row] for row in table]


def test_lines_are_counted_through_quotes(written):
    rows = read_rows(written('a,b\n"1\n2",3\n4,5\n'))
    assert rows.lines == [3, 4]
    with pytest.raises(UserError, match="line 4: 1 value"):
        read_rows(written('a,b\n"1\n2",3\n4\n'))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,2", r"table.csv, line 3: 2 value\(s\), expected 3, so that 'c' has none \(drop_faulty, "),
        ("1,2,3,4", r"table.csv, line 3: 4 value\(s\), expected 3 \(drop_faulty, --drop-faulty on the"),
    ],
)
def test_ragged_rows(written, row, message):
    path = written(f"a,b,c\n1,2,3\n{row}\n4,5,6\n")
    with pytest.raises(UserError, match=message + ".* leaves such rows out\\)$"):
        read_rows(path)
    with pytest.raises(UserError, match=message.partition(r" \(drop_faulty")[0] + "$"):
        read_rows(path, drop_faulty=None)
    rows = read_rows(path, drop_faulty=True)
    assert rows.values == [["1", "2", "3"], ["4", "5", "6"]]
    assert (rows.lines, rows.dropped) == ([2, 4], 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_mark_of_a_spreadsheet(written, encoding):
    assert read_rows(written("größe,b\n1,2\n", encoding)).names == ["größe", "b"]


def test_another_encoding(written):
    path = written("a,b\n1,x\n2,größe\n", "latin-1")
    assert read_rows(path, encoding="latin-1").values[1] == ["2", "größe"]
    with pytest.raises(UserError, match=r"table.csv, line 3: byte 0xf6 is not UTF-8; .*often latin-1 .*--encoding of"):
        read_rows(path)
    with pytest.raises(UserError, match="given encoding 'latin-one', which Python does not know"):
        read_rows(path, encoding="latin-one")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "table.csv is empty"),
        ("\n\n", "table.csv is empty"),
        ("a,b\n", "has no rows below its header"),
        ("a,b,a\n1,2,3\n", "columns 1 and 3 are both called 'a'"),
        (",b,\n1,2,3\n", "columns 1 and 3 are both without a name"),
        ('a,b\n1,"2\n', 'line 2: a quoted field of the row that begins there never closes, expected a second " at its'),
        ('a,b\n"1\n1",2\n\n3,"4\n5,6\n7,8\n', "table.csv, line 5: a quoted field of the row that begins there never"),
        ('a,b\n1,"2"3\n', r"line 2: ',' expected after '\"'"),
    ],
)
def test_faulty_files(written, text, message):
    with pytest.raises(UserError, match=message):
        read_rows(written(text))


def test_only_faulty_rows(written):
    with pytest.raises(UserError, match="has no rows but 2 faulty ones"):
        read_rows(written("a,b\n1\n2\n"), drop_faulty=True)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*nowhere.csv: No such file"):
        read_rows(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("text", ["1", "-2.5", "1e-3", "inf", "nan", ".5"])
def test_numbers(text):
    assert is_number(text)


@pytest.mark.parametrize("text", ["", "1_000", "1,5", "a", "1 2", "0x10"])
def test_no_numbers(text):
    assert not is_number(text)
