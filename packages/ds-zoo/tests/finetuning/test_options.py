"""The options of fine-tuning on the command line, and what they do to a model."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from ds_core import UserError
from ds_core.options import Parser, add_options, build_options, from_json, to_json
from ds_core.training.run_options import RunOptions
from ds_zoo.finetuning import FineTuningOptions, prepare
from ds_zoo.minibert.options import MiniBERTOptions
from ds_zoo.miniclip.options import MiniCLIPOptions
from ds_zoo.minigpt.options import MiniGPTOptions
from ds_zoo.minivit.options import MiniViTOptions
from tiny_model import tiny_model, trained_names


@dataclass
class Options(FineTuningOptions, RunOptions):
    """Of a recipe."""

    out: Path = Path("runs/x")


def given(*words):
    parser = Parser()
    add_options(parser, Options)
    return build_options(Options, parser.parse(words))


def test_defaults_change_nothing():
    options, model = given(), tiny_model()
    names = trained_names(model)
    prepare(model, options)
    assert trained_names(model) == names
    assert options.from_pretrained is None


def test_freezing():
    model = tiny_model()
    prepare(model, given("--freeze", "tokens", "blocks.[0-3]"))
    assert [name.split(".")[0] for name in trained_names(model)] == ["positions", "norm", "norm"]


def test_lora():
    model = tiny_model()
    options = given(
        "--from-pretrained", "x", "--lora-rank", "2", "--lora-alpha", "8", "--lora-targets", "out_proj", "linear1"
    )
    prepare(model, options, new=["norm"])
    layers = {name.rpartition(".")[0] for name in trained_names(model)}
    expected = {f"blocks.{i}.{layer}" for i in (0, 1) for layer in ("attention.out_proj", "feed_forward.linear1")}
    assert layers == {*expected, "norm"}
    assert model.blocks[0].attention.out_proj.lora_a.shape[0] == 2
    assert model.blocks[0].attention.out_proj.scale == 4.0


def test_survive_json():
    options = given("--lora-rank", "2", "--from-pretrained", "somewhere", "--layer-decay", "0.5")
    stored = to_json(options)
    again = build_options(Options, from_json(Options, stored))
    assert to_json(again) == stored
    assert again.lora_targets == ("attention",)
    assert again.layer_decay == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer-decay", "0"], "--layer-decay: given 0, expected more than 0"),
        (["--layer-decay", "1.5"], "--layer-decay: given 1.5, expected at most 1"),
        (["--lora-rank", "-1"], "--lora-rank: given -1, expected at least 0"),
        (["--lora-targets", "out_proj"], "--lora-targets and --lora-alpha need --lora-rank"),
        (["--lora-alpha", "3"], "--lora-targets and --lora-alpha need --lora-rank"),
        (["--lora-rank", "2", "--lora-alpha", "0"], "--lora-alpha: given 0"),
        (["--lora-rank", "2", "--lora-targets"], "--lora-targets: given nothing"),
        (["--lora-rank", "2", "--freeze", "tokens"], "--freeze and --lora-rank exclude each other"),
        (["--lora-rank", "2"], "--lora-rank needs --from-pretrained"),
        (["--resume", "--overwrite"], "--resume"),  # what the other base class checks
    ],
)
def test_contradictions(words, message):
    with pytest.raises(UserError, match=message):
        given(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--freeze", "head"], r"^--freeze: 'head' fits no parameter: there are tokens, positions, blocks"),
        (["--freeze", "*"], r"^--freeze: \* leave no parameter to train$"),
        (
            ["--from-pretrained", "x", "--lora-rank", "2", "--lora-targets", "query"],
            r"^--lora-targets: 'query' fits no layer: there are blocks",
        ),
    ],
)
def test_names_that_fit_nothing(words, message):
    with pytest.raises(UserError, match=message):
        prepare(tiny_model(), given(*words))


def test_help_is_a_line_for_each(capsys):
    parser = Parser()
    add_options(parser, Options)
    text = " ".join(parser.format_help().split())
    assert "--freeze [TEXT ...] parts that are not trained" in text
    assert "--lora-targets [TEXT ...] layers that get LoRA's updates" in text
    assert "(default: attention)" in text


@pytest.mark.parametrize("recipe", [MiniGPTOptions, MiniBERTOptions, MiniViTOptions, MiniCLIPOptions])
def test_fine_tuning_has_a_smaller_learning_rate(recipe):
    folder = Path("pretrained")
    assert recipe().lr == recipe.lr > 1e-3
    assert recipe(from_pretrained=folder).lr == 1e-4
    assert recipe(from_pretrained=folder, lora_rank=2).lr == 1e-3
    assert recipe(from_pretrained=folder, lr=0.5).lr == 0.5


@pytest.mark.parametrize(
    ("recipe", "decided", "free"),
    [
        (MiniGPTOptions, {"num_layers": 3}, {"preset": "nanogpt-cpu"}),
        (MiniBERTOptions, {"hidden_dim": 12}, {}),
        (MiniViTOptions, {"patch_size": 8}, {"dataset": "mnist"}),
        (MiniCLIPOptions, {"image_size": 64}, {"preset": "photos"}),
    ],
)
def test_the_model_has_its_own_sizes(recipe, decided, free):
    flag = "--" + next(iter(decided)).replace("_", "-")
    with pytest.raises(UserError, match=f"^{flag} contradicts --from-pretrained: the model in pretrained has its own"):
        recipe(from_pretrained=Path("pretrained"), **decided)
    options = recipe(from_pretrained=Path("pretrained"), **free)
    assert all(getattr(options, name) == getattr(recipe, name) for name in recipe.decided)


def test_the_run_and_its_model_are_different_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="the run would overwrite the model that it begins with"):
        MiniGPTOptions(from_pretrained=tmp_path / "a", out=Path("b/../a"))
