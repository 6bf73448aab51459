import os
import subprocess
import sys

import bench
import pytest
from workspace import packages

MAIN = 'if __name__ == "__main__":\n    '
FILES = {
    "ds-core/benchmarks/one.py": f"import sys\n{MAIN}print('ran one', sys.argv[1:])",
    "ds-cnn/benchmarks/two.py": f"{MAIN}raise SystemExit('two is broken')",
    "ds-cnn/benchmarks/helper.py": "raise SystemExit('no benchmark')",
}


# Imports every benchmark as its docstring says to start it, from its own folder and with nothing on the path
IMPORT_ALL = """
import os, runpy, sys
before = sys.path[1:]
for path in sys.argv[1:]:
    sys.path[:] = [os.path.dirname(path), *before]
    sys.modules.pop("paired", None)
    runpy.run_path(path, run_name="imported")
"""


def test_every_benchmark_of_the_repository_runs_without_the_bench_tool_too():
    benchmarks = [path for package in packages() for path in package.files("benchmarks")]
    assert len(benchmarks) > 5
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", IMPORT_ALL, *map(str, benchmarks)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_runs_the_named_benchmark(plant, capfd):
    assert bench.main(["one"], plant(FILES)) == 0
    printed = capfd.readouterr().out
    assert "packages/ds-core/benchmarks/one.py" in printed
    assert "ran one []" in printed
    assert "two" not in printed


@pytest.mark.parametrize(
    ("words", "passed_on"),
    [
        (["one", "--", "--fast", "2"], ["--fast", "2"]),
        (["one", "--fast", "2"], ["--fast", "2"]),  # hatch takes the first -- out
        (["ds-core", "--", "x"], ["x"]),
        (["one", "--", "--", "x"], ["--", "x"]),
        (["one", "--", "--help"], ["--help"]),
    ],
)
def test_passes_options_on_to_the_benchmark(words, passed_on, plant, capfd):
    assert bench.main(words, plant(FILES)) == 0
    assert f"ran one {passed_on}" in capfd.readouterr().out


@pytest.mark.parametrize("words", [["one", "ds-cnn", "--", "--fast", "2"], ["--", "--fast"], ["--fast"]])
def test_options_are_for_one_benchmark_that_is_named(words, plant, capfd):
    with pytest.raises(SystemExit) as finished:
        bench.main(words, plant(FILES))
    assert finished.value.code == 2
    printed, complaints = capfd.readouterr()
    assert "ran one" not in printed
    assert "--fast" in complaints


def test_a_benchmark_that_fails_fails_the_run_and_the_others_still_run(plant, capfd):
    assert bench.main([], plant(FILES)) == 1
    assert "ran one" in capfd.readouterr().out


def test_a_file_that_is_no_program_is_no_benchmark(plant, capfd):
    assert bench.main(["--list"], plant(FILES)) == 0
    printed = capfd.readouterr().out
    assert "one.py" in printed
    assert "helper" not in printed


def test_unknown_name(plant, capsys):
    with pytest.raises(SystemExit):
        bench.main(["three"], plant(FILES))
    assert "there are one, two" in capsys.readouterr().err
