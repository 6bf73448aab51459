"""Where the output is not UTF-8, the `ds` command loses a character and not the run."""

import os
import subprocess
import sys
from dataclasses import dataclass

from ds_core.options import option
from ds_core.training.run_folder import RunOptions, open_run_folder


@dataclass
class Options(RunOptions):
    words: str = option("日本 é", "what is written")


def test_characters_that_the_output_cannot_hold(tmp_path):
    folder = open_run_folder("tiny", Options(out=tmp_path / "run"))

    def info(folder):
        command = [sys.executable, "-m", "ds_core.cli", "info", str(folder)]
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        run = subprocess.run(command, env=environment, capture_output=True, encoding="latin-1", check=False)
        return run.returncode, run.stdout, run.stderr

    status, printed, complaints = info(folder)
    assert (status, complaints) == (0, "")
    assert "?? é\n" in printed
    status, printed, complaints = info(tmp_path / "日本")
    assert (status, printed) == (2, "")
    assert r"no run folder " in complaints
    assert r"\u65e5\u672c" in complaints  # Python's own way on stderr: the name can still be told
