"""The script `demo` of pyproject.toml: it destroys no run that its own last lines invite the user to go on with."""

import shlex

import pytest
from ds_core.cli.main import main
from workspace import ROOT, read_toml


@pytest.fixture
def demo(tmp_path, monkeypatch, capsys):
    """`demo("--steps", "2")` runs its first command, made tiny, with these words as hatch puts them in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("to be or not to be\n" * 20)
    tiny = "--text text.txt --num-layers 1 --num-heads 1 --embed-dim 4 --block-size 4"
    tiny += " --batch-size 1 --evaluate-batches 1"
    environments = read_toml(ROOT / "pyproject.toml")["tool"]["hatch"]["envs"]
    ds, *words = shlex.split(environments["default"]["scripts"]["demo"][0])
    assert ds == "ds"
    assert words[-1] == "{args}"

    def run(*more):
        status = main([*words[:-1], *tiny.split(), *more])
        return status, capsys.readouterr().err

    return run


def test_demo_keeps_the_run_that_is_there(demo, tmp_path):
    def content():
        return {path.name: path.read_bytes() for path in (tmp_path / "runs/demo").iterdir()}

    assert demo("--steps", "2")[0] == 0
    assert demo("--resume", "--steps", "3")[0] == 0
    before = content()
    status, complaint = demo("--steps", "2")
    assert status == 2
    assert complaint.count("\n") == 1
    assert "already holds a run" in complaint
    assert "--overwrite starts again" in complaint
    assert content() == before
    assert demo("--steps", "2", "--overwrite")[0] == 0
