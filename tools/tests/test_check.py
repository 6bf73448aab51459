import re

import check
import pytest
from workspace import ROOT, read_toml

SCRIPTS = """\
[tool.hatch.envs.default.scripts]
good = "python -c 'import sys; print(sys.argv[1:])' {args:one two}"
bare = "python -c 'import sys; print(sys.argv[1:])' {args}"
twice = ["python -c 'print(1)' {args}", "python -c 'print(2)'"]
bad = ["python -c 'raise SystemExit(3)'", "python -c 'print(4)'"]
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "pyproject.toml").write_text(SCRIPTS)
    return tmp_path


def test_runs_the_steps_in_turn_and_tells_their_seconds(root, capfd):
    assert check.main(["good", "good three 'fo ur'", "bare", "twice"], root) == 0
    printed = capfd.readouterr().out
    lines = [line for line in printed.splitlines() if line]
    assert lines[:9] == [
        "== good",
        "['one', 'two']",
        "== good three 'fo ur'",
        "['three', 'fo ur']",
        "== bare",
        "[]",
        "== twice",
        "1",
        "2",
    ]
    assert lines[9] == "seconds  step"
    steps = [re.fullmatch(r" +(\d+)  (.+)", line) for line in lines[10:-1]]
    assert [step[2] for step in steps] == ["good", "good three 'fo ur'", "bare", "twice", "in all"]
    assert lines[-1] == "check: ok"


def test_stops_at_the_first_that_fails(root, capfd):
    assert check.main(["good", "bad", "twice"], root) == 1
    printed = capfd.readouterr().out
    assert "== twice" not in printed
    assert "\n4\n" not in printed
    assert printed.endswith("check: bad failed\n")


def test_an_unknown_step(root, capsys):
    assert check.main(["god"], root) == 2
    assert "no script god; it has good, bare, twice, bad" in capsys.readouterr().out


def test_every_step_is_a_script_and_every_check_is_a_step():
    environments = read_toml(ROOT / "pyproject.toml")["tool"]["hatch"]["envs"]
    scripts = environments["default"]["scripts"]
    steps = {step.split()[0] for step in check.STEPS}
    assert steps <= set(scripts)
    checking = {name for name, script in scripts.items() if "check_" in str(script)}
    assert checking <= steps
    assert {"lint", "types", "notebooks", "test", "isolate"} <= steps
