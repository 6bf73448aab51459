"""Without what an extra brings, everything else works, and a command that needs it says what to install."""

import sys

import pytest
from ds_core.cli.main import main
from ds_core.data import DATA_SETS, cache_folder, download, load
from ds_core.errors import MissingPackageError, needs_extra

EXTRAS = {
    "data": ("filelock", "pooch", "requests", "sklearn"),
    "text": ("sacrebleu", "tokenizers"),
    "plot": ("matplotlib",),
}


@pytest.fixture
def without(monkeypatch):
    """`without("data")` hides what the extra brings, though it is installed here."""

    def hide(*extras):
        for module in [module for extra in extras for module in EXTRAS[extra]]:
            for name in [module, *(name for name in sys.modules if name.startswith(f"{module}."))]:
                monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_the_message_names_the_package_and_the_extra():
    with pytest.raises(MissingPackageError) as raised, needs_extra("plot", "drawing"):
        raise ModuleNotFoundError("No module named 'missing.part'", name="missing.part")
    assert str(raised.value) == ('drawing needs missing, which is not installed: pip install "ds-core[plot]"')
    assert raised.value.exit_status == 2


def test_the_extra_may_be_another_packages():
    with pytest.raises(MissingPackageError) as raised, needs_extra("images", "reading images", package="ds-cnn"):
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL")
    assert str(raised.value) == ('reading images needs PIL, which is not installed: pip install "ds-cnn[images]"')


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), needs_extra("plot", "drawing"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("words", "status"), [(["list"], 0), (["--help"], 0), (["info"], 0), (["train", "mlp", "--help"], 0)]
)
def test_what_needs_no_extra_works_without(without, capsys, words, status):
    without(*EXTRAS)
    assert main(words) == status
    printed, complaint = capsys.readouterr()
    assert printed
    assert complaint == ""


@pytest.mark.parametrize("recipe", ["mlp", "perceptron", "regression"])
def test_gradients_are_checked_without_extras(without, capsys, recipe):
    without(*EXTRAS)
    assert main(["check", recipe]) == 0


@pytest.mark.parametrize("recipe", ["mlp", "regression"])
def test_training_on_a_data_set_names_the_extra(without, capsys, tmp_path, recipe):
    without("data")
    assert main(["train", recipe, "--out", str(tmp_path / "run")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert 'needs sklearn, which is not installed: pip install "ds-core[data]"' in complaint


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_data_set_says_what_it_needs(without, monkeypatch, tmp_path, name):
    monkeypatch.setenv("DS_HOME", str(tmp_path))
    without("data")
    with pytest.raises(MissingPackageError, match=r'"ds-core\[data\]"'):
        load(name)


def test_downloads_name_the_extra(without, tmp_path, monkeypatch):
    without("data")
    with pytest.raises(MissingPackageError, match=r'downloading a.gz needs filelock.*"ds-core\[data\]"'):
        download("a.gz", ["http://localhost/a.gz"], "md5:0", tmp_path)
    monkeypatch.delenv("DS_HOME", raising=False)
    with pytest.raises(MissingPackageError, match=r'folder for caches needs pooch.*"ds-core\[data\]"'):
        cache_folder()
