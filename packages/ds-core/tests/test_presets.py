"""Presets: named sets of values, merged before the dataclass of options is built."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ds_core import UserError
from ds_core.options import (
    Parser,
    add_options,
    build_options,
    from_json,
    option,
    preset_option,
    to_json,
    with_presets,
)
from ds_core.training.run_folder import open_run_folder, read_run_folder, resumed_options
from ds_core.training.run_options import RunOptions

PRESETS = {
    "large": {"num_layers": 12, "lr": 1e-4, "bias": True, "widths": (8, 8)},
    "fast": {"steps": 10},
}


def follow(values, given):
    if "lr" in given and "min_lr" not in given:
        values["min_lr"] = given_lr = values["lr"] / 10
        assert isinstance(given_lr, float)


@with_presets(PRESETS, follow)
@dataclass
class Options(RunOptions):
    """Options of a test."""

    out: Path = option(Path("runs/preset"), "the run folder", may_change=True)
    preset: str = preset_option(PRESETS)
    num_layers: int = option(2, "blocks", minimum=1)
    lr: float = option(1e-3, "learning rate", minimum=0)
    min_lr: float = option(0.0, "where it ends", minimum=0)
    steps: int = option(100, "optimizer steps", may_change=True)
    bias: bool = option(False, "with biases")
    widths: tuple[int, ...] = option((4,), "of each layer")
    names: list[str] = option(["a"], "of each layer")

    def __post_init__(self):
        super().__post_init__()
        self.seen = (self.num_layers, self.lr)
        if self.num_layers > 100:
            raise UserError("too deep")


def test_the_fields_defaults_are_the_default_preset():
    options = Options()
    assert (options.preset, options.num_layers, options.lr, options.steps) == ("default", 2, 1e-3, 100)
    assert Options().names is not Options().names


def test_given_values_go_before_the_presets():
    options = Options(preset="large", num_layers=3)
    assert (options.num_layers, options.lr, options.bias, options.widths) == (3, 1e-4, True, (8, 8))
    assert options.steps == 100
    assert Options(preset="large", num_layers=2).num_layers == 2  # though it is the default


def test_values_are_there_when_the_dataclass_checks_them():
    assert Options(preset="large").seen == (12, 1e-4)
    with pytest.raises(UserError, match="too deep"):
        Options(preset="large", num_layers=101)


def test_values_that_follow_others():
    assert Options(preset="large").min_lr == 0.0
    assert Options(preset="large", lr=1e-2).min_lr == pytest.approx(1e-3)
    assert Options(lr=1e-2, min_lr=0.5).min_lr == 0.5


def test_a_copy_keeps_its_values():
    options = replace(Options(preset="large", lr=1e-2), steps=5)
    assert (options.preset, options.num_layers, options.lr, options.min_lr, options.steps) == (
        *("large", 12, 1e-2),
        *(pytest.approx(1e-3), 5),
    )


def test_from_the_command_line_and_back():
    parser = Parser(prog="ds train preset")
    add_options(parser, Options)
    options = build_options(Options, parser.parse(["--preset", "large", "--lr", "1e-2"]))
    assert options == Options(preset="large", lr=1e-2)
    assert build_options(Options, from_json(Options, to_json(options))) == replace(options, out=options.out.absolute())


def test_help_lists_the_value_of_each_preset(capsys):
    parser = Parser(prog="ds train preset")
    add_options(parser, Options)
    with pytest.raises(SystemExit):
        parser.parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for shown in (
        "--preset {default,large,fast} where the values of options not given come from (default: default)",
        "blocks (default: 2; large: 12)",
        "learning rate (default: 0.001; large: 0.0001)",
        "optimizer steps (default: 100; fast: 10)",
        "with biases (default: off; large: on)",
        "of each layer (default: 4; large: 8 8)",
    ):
        assert shown in text


def test_an_unknown_preset():
    with pytest.raises(UserError, match=r"--preset: given 'larg', expected one of default, large, fast; did you mean"):
        build_options(Options, {"preset": "larg"})
    with pytest.raises(UserError, match="--preset: given 'larg', expected one of default, large, fast"):
        Options(preset="larg")


def test_a_resumed_run_keeps_the_values_it_began_with(tmp_path, monkeypatch):
    open_run_folder("tiny", Options(out=tmp_path, preset="fast", num_layers=5))
    stored = read_run_folder(tmp_path).options
    assert (stored["preset"], stored["steps"], stored["num_layers"]) == ("fast", 10, 5)
    monkeypatch.setitem(PRESETS["fast"], "steps", 11)  # a later version has another preset
    options = resumed_options(Options, tmp_path, {"resume": True, "preset": "fast"})
    assert (options.steps, options.num_layers) == (10, 5)
    with pytest.raises(UserError, match="--preset: given large, the run began with fast"):
        resumed_options(Options, tmp_path, {"preset": "large"})
    assert resumed_options(Options, tmp_path, {"lr": 1e-3}).min_lr == 0.0


def test_presets_of_unknown_options():
    with pytest.raises(TypeError, match=r"Options: the preset tiny has values for unknown options \['layers'\]"):
        with_presets({"tiny": {"layers": 1}})(Options)
