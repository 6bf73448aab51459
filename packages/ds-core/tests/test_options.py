"""Options: from a dataclass to the command line, to JSON and back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from ds_core import UserError
from ds_core.errors import did_you_mean
from ds_core.options import Parser, add_options, build_options, from_json, option, specs, to_json


@dataclass
class Everything:
    steps: int = option(500, "how many", minimum=1, maximum=1000)
    learning_rate: float = option(1e-3, "how fast", minimum=0)
    prompt: str = option("", "100% of the text")
    text: Path | None = option(None, "a file")
    compile: bool = option(False, "one graph", may_change=True)
    bias: bool = option(True, "with bias")
    device: str = option("auto", "where", choices=["auto", "cpu", "cuda"])
    top_k: int | None = option(40, "the most likely")
    dtype: Literal["float32", "bfloat16"] = option("float32", "precision")
    widths: list[int] = option([4, 8], "of each layer", minimum=1)
    names: tuple[str, ...] = option((), "of each class")

    def __post_init__(self):
        if self.compile and self.device == "cuda":
            raise UserError("--compile and --device cuda contradict each other")


def parse(*words):
    parser = Parser(prog="ds train everything")
    add_options(parser, Everything)
    return build_options(Everything, parser.parse(list(words)))


def test_defaults():
    assert parse() == Everything()
    assert Everything().widths is not Everything().widths


def test_every_kind():
    options = parse(
        *["--steps", "7", "--learning-rate", "1e-4", "--text", "a.txt", "--compile", "--no-bias", "--device", "cpu"],
        *["--top-k", "none", "--dtype", "bfloat16", "--widths", "1", "2", "3", "--names", "a", "b"],
        *["--prompt", "two words"],
    )
    assert options == Everything(
        7, 1e-4, "two words", Path("a.txt"), True, False, "cpu", None, "bfloat16", [1, 2, 3], ("a", "b")
    )


def test_only_what_was_given():
    parser = Parser(prog="ds")
    add_options(parser, Everything)
    assert parser.parse(["--steps", "500"]) == {"steps": 500}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stepz", "5"], r"unknown option --stepz; did you mean --steps\? \(see ds train everything --help\)"),
        (["--learning_rate=1"], "unknown option --learning_rate; did you mean --learning-rate"),
        (["--step", "5"], "unknown option --step; did you mean --steps"),
        (["--qqqq"], r"unknown option --qqqq \(see"),
        (["--no-biass"], "unknown option --no-biass; did you mean --no-bias"),
        (["text.txt"], "unexpected argument 'text.txt'"),
        (["--steps", "ten"], "argument --steps: invalid int value: 'ten'"),
        (["--steps"], "argument --steps: expected one argument"),
        (["--steps", "0"], "--steps: given 0, expected at least 1"),
        (["--steps", "1001"], "--steps: given 1001, expected at most 1000"),
        (["--steps", "none"], "invalid int value: 'none'"),
        (["--learning-rate", "nan"], "--learning-rate: given nan, expected a finite number"),
        (["--learning-rate", "inf"], "expected a finite number"),
        (["--learning-rate", "-1"], "--learning-rate: given -1.0, expected at least 0"),
        (["--device", "cpuu"], "--device: given 'cpuu', expected one of auto, cpu, cuda; did you mean cpu"),
        (["--dtype", "float64"], "--dtype: given 'float64', expected one of float32, bfloat16"),
        (["--widths", "3", "0"], "--widths: given 0, expected at least 1"),
        (["--text", ""], "--text: given an empty text, expected a path"),
        (["--text="], "--text: given an empty text, expected a path"),
        (["--compile", "--device", "cuda"], "--compile and --device cuda contradict each other"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(UserError, match=message) as error:
        parse(*words)
    assert "\n" not in str(error.value)
    assert error.value.exit_status == 2


def test_help_lists_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = capsys.readouterr().out
    for flag in ("--steps N", "--learning-rate X", "--compile, --no-compile", "--device {auto,cpu,cuda}", "--top-k N"):
        assert flag in text
    for default in (
        "how many (default: 500)",
        "one graph (default: off)",
        "(default: 4 8)",
        "100% of the text (default: '')",
    ):
        assert default in text
    assert "a file\n" in text


def test_json_round_trip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = Everything(text=Path("a.txt"), top_k=None, widths=[1], names=("x",))
    stored = json.loads(json.dumps(to_json(options)))
    assert stored["text"] == str(tmp_path / "a.txt")
    restored = build_options(Everything, from_json(Everything, stored))
    assert restored == Everything(text=tmp_path / "a.txt", top_k=None, widths=[1], names=("x",))


@pytest.mark.parametrize(
    "stored",
    [{"steps": "5"}, {"steps": True}, {"steps": 1.5}, {"prompt": 3}, {"widths": 3}, {"widths": ["a"]}, {"bias": 1}],
)
def test_json_of_the_wrong_type(stored):
    with pytest.raises(UserError, match=f"option {next(iter(stored))}: expected"):
        from_json(Everything, stored)


def test_integers_are_floats_too():
    assert from_json(Everything, {"learning_rate": 1}) == {"learning_rate": 1.0}


def test_unknown_value():
    with pytest.raises(UserError, match="unknown option stepz; did you mean steps"):
        build_options(Everything, {"stepz": 1})


def test_what_no_command_line_can_give():
    @dataclass
    class Odd:
        x: dict = option({}, "")

    with pytest.raises(TypeError, match=r"Odd\.x: an option cannot be of type"):
        specs(Odd)

    @dataclass
    class Required:
        x: int

    with pytest.raises(TypeError, match=r"Required\.x: an option needs a default"):
        specs(Required)


def test_did_you_mean():
    assert did_you_mean("minigtp", ["minigpt", "mlp"]) == "; did you mean minigpt?"
    assert did_you_mean("xyz", ["minigpt"]) == ""
