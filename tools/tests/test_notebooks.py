import json

import notebooks
import pytest

SOURCE = "# %% [markdown]\n# # Title\n\n# %%\nx = 1 + 1\nprint(x)\n"


@pytest.fixture
def workspace(plant):
    root = plant({"ds-core/notebooks/first.py": SOURCE})
    assert notebooks.main([], root) == 0
    return root


def executed(root):
    return root / "packages/ds-core/notebooks/first.ipynb"


def test_executes_and_is_then_up_to_date(workspace):
    cells = json.loads(executed(workspace).read_text())["cells"]
    assert cells[1]["outputs"][0]["text"] == ["2\n"]
    assert notebooks.main(["--check"], workspace) == 0


def test_executing_again_changes_nothing(workspace):
    first = executed(workspace).read_bytes()
    assert notebooks.main(["first"], workspace) == 0
    assert executed(workspace).read_bytes() == first


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (SOURCE.replace("1 + 1", "2 + 2"), "other cells than its source"),
        (SOURCE.replace("1 + 1", "1 / 0"), "ZeroDivision"),
    ],
)
def test_check_catches_a_changed_or_failing_source(workspace, capsys, source, fault):
    (workspace / "packages/ds-core/notebooks/first.py").write_text(source)
    assert notebooks.main(["--check"], workspace) == 1
    assert fault in capsys.readouterr().out


def test_check_catches_a_missing_and_an_unexecuted_notebook(workspace, capsys):
    notebook = json.loads(executed(workspace).read_text())
    notebook["cells"][1] |= {"execution_count": None, "outputs": []}
    executed(workspace).write_text(json.dumps(notebook))
    assert notebooks.main(["--check"], workspace) == 1
    assert "was not executed" in capsys.readouterr().out
    executed(workspace).unlink()
    assert notebooks.main(["--check"], workspace) == 1
    assert "first.ipynb is missing" in capsys.readouterr().out


def test_check_catches_an_error_in_the_executed_notebook(workspace, capsys):
    notebook = json.loads(executed(workspace).read_text())
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    notebook["cells"][1]["outputs"].append(error)
    executed(workspace).write_text(json.dumps(notebook))
    assert notebooks.main(["--check"], workspace) == 1
    assert capsys.readouterr().out.endswith("first.ipynb holds an error\nnotebooks: 1 fault(s)\n")


def test_a_failing_notebook_is_not_written(plant, capsys):
    root = plant({"ds-core/notebooks/first.py": "# %%\nraise ValueError('no')\n"})
    assert notebooks.main([], root) == 1
    assert "ValueError" in capsys.readouterr().out
    assert not executed(root).exists()


def test_unknown_name(plant, capsys):
    with pytest.raises(SystemExit):
        notebooks.main(["secnd"], plant({"ds-core/notebooks/first.py": SOURCE}))
    assert "there are first" in capsys.readouterr().err
