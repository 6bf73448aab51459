import bench
import pytest

MAIN = 'if __name__ == "__main__":\n    '
FILES = {
    "ds-core/benchmarks/one.py": f"import workspace\n{MAIN}print('ran one')",
    "ds-cnn/benchmarks/two.py": f"{MAIN}raise SystemExit('two is broken')",
    "ds-cnn/benchmarks/helper.py": "raise SystemExit('no benchmark')",
}


def test_runs_the_named_benchmark_with_the_tools_at_hand(plant, capfd):
    assert bench.main(["one"], plant(FILES)) == 0
    printed = capfd.readouterr().out
    assert "packages/ds-core/benchmarks/one.py" in printed
    assert "ran one" in printed
    assert "two" not in printed


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
