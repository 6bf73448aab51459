"""Where the output is not UTF-8, the `ds` command loses a character and not the run."""

import io
import sys
from dataclasses import dataclass

from ds_core.cli.main import main
from ds_core.options import option
from ds_core.training.run_folder import open_run_folder
from ds_core.training.run_options import RunOptions


@dataclass
class Options(RunOptions):
    words: str = option("日本 é", "what is written")


def test_characters_that_the_output_cannot_hold(tmp_path, monkeypatch):
    folder = open_run_folder("tiny", Options(out=tmp_path / "run"))

    def info(folder):
        out, err = io.BytesIO(), io.BytesIO()  # as Python opens them where PYTHONIOENCODING is latin-1
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "latin-1"))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, "latin-1", errors="backslashreplace"))
        status = main(["info", str(folder)])
        sys.stdout.flush(), sys.stderr.flush()
        return status, out.getvalue().decode("latin-1"), err.getvalue().decode("latin-1")

    status, printed, complaints = info(folder)
    assert (status, complaints) == (0, "")
    assert "?? é\n" in printed
    status, printed, complaints = info(tmp_path / "日本")
    assert (status, printed) == (2, "")
    assert r"no run folder " in complaints
    assert r"\u65e5\u672c" in complaints  # Python's own way on stderr: the name can still be told
