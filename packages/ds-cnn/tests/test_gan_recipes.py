import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ds_cnn.recipes.gan_options import GenerateOptions
from ds_cnn.recipes.gan_plots import check_size, latent, of_8_bits, write_samples
from ds_cnn.recipes.image_data import data_set
from ds_cnn.recipes.image_format import ImageFormat
from ds_cnn.recipes.judge import Judge, load_judge, train_judge, verdict
from ds_core import UserError
from ds_core.cli.main import main
from ds_core.recipes.recipe import find_recipe
from ds_core.testing import RECIPE_PARTS, check_recipe

SMALL = "--width 2 --latent-size 3 --batch-size 32 --judge-epochs 1 --judged 20"
WORDS = {
    "dcgan": f"{SMALL} --rounds 4 --evaluate-every 2",
    "wgan": f"{SMALL} --rounds 4 --evaluate-every 2 --critic-steps 2",
}
CHANGED = {
    "dcgan": {"--real-label 1": "--real-label: given 1.0, the run began with 0.9"},
    "wgan": {"--critic-steps 3": "--critic-steps: given 3, the run began with 2"},
}
WIDTH = {"--width 3": "--width: given 3, the run began with 2"}
BOTH = {
    "longer": "--rounds 5",
    "shorter": "--rounds 2",
    "mistakes": {
        "--batch-size 2000": "--batch-size 2000 is more than the 1437 images there are",
        "--judge nowhere": "--judge nowhere and --judge-epochs 1 contradict each other",
        "--dataset iris": "--dataset: given 'iris'",
        "--latent-size 0": "--latent-size: given 0, expected at least 1",
    },
    "together": None,  # the recipes refuse several processes, as a test below says
}


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_dcgan_survives(part):
    check_recipe("dcgan", WORDS["dcgan"], changed={**WIDTH, **CHANGED["dcgan"]}, parts=[part], **BOTH)


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_wgan_survives(part):
    check_recipe("wgan", WORDS["wgan"], changed={**WIDTH, **CHANGED["wgan"]}, parts=[part], **BOTH)


@pytest.fixture(scope="module", params=["dcgan", "wgan"])
def trained(request, tmp_path_factory):
    """A folder after `ds train`, with pictures, and the recipe's name."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    assert main(["train", request.param, "--out", str(folder), "--threads", "1", *WORDS[request.param].split()]) == 0
    return folder, request.param


def test_several_processes_are_refused(tmp_path):
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ds_core.cli", "train"]
    ended = subprocess.run(
        [*words, "dcgan", "--out", str(tmp_path / "run"), *WORDS["dcgan"].split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    assert "ds: error: dcgan trains in one process" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_what_a_run_leaves(trained):
    folder, _ = trained
    results = json.loads((folder / "results.json").read_text())
    assert results["classes"] == sum(count > 0 for count in results["by class"].values())
    assert sum(results["by class"].values()) == round(results["confident"] * 20)
    assert set(results["judge"]) == {"accuracy", "confident of real"}
    for name in ("samples.png", "walks.png", "loss.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_generate(trained, tmp_path, capsys):
    """The same seed draws the same images; the picture holds as many as asked for."""
    folder, _ = trained
    for name, seed in (("a.png", "3"), ("b.png", "3"), ("c.png", "4")):
        words = ["generate", str(folder), "--count", "10", "--columns", "5", "--scale", "2", "--seed", seed]
        assert main([*words, "--out", str(tmp_path / name)]) == 0
    assert "10 image(s) in" in capsys.readouterr().out
    a, b, c = [(tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png")]
    assert a == b
    assert a != c
    from PIL import Image

    assert Image.open(tmp_path / "a.png").size == (5 * (16 + 1) + 1, 2 * (16 + 1) + 1)


def test_generate_complains(trained, tmp_path, capsys):
    folder, name = trained
    empty = tmp_path / "killed"
    empty.mkdir()
    for file in ("recipe.json", "images.json"):
        (empty / file).write_bytes((folder / file).read_bytes())
    assert main(["generate", str(empty)]) == 2
    assert f"has no checkpoint.safetensors yet: ds train {name}" in capsys.readouterr().err
    assert main(["generate", str(folder), "--out", str(tmp_path / "no" / "a.png")]) == 1
    assert "cannot write" in capsys.readouterr().err
    for words, message in (
        (
            "--count 1000000 --scale 100",
            "--count 1000000, --columns 8 and --scale 100 make a picture of 106,250,050 x 6,850 pixels, expected at "
            "most 100,000,000 in all: draw fewer or smaller images",
        ),
        ("--columns 1000000000", "--count 64, --columns 1000000000 and --scale 4 make a picture of 36 x "),
        ("--out drawn.jpg", "--out drawn.jpg: pictures are written as PNG, expected a name that ends with .png"),
    ):
        assert main(["generate", str(folder), *words.split()]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_what_the_largest_picture_is(trained, tmp_path):
    """What is counted is what is drawn."""
    images = ImageFormat.load(trained[0])
    for count, columns, scale in ((1, 8, 1), (9, 4, 3)):
        options = GenerateOptions(count=count, columns=columns, scale=scale)
        write_samples(tmp_path / "a.png", torch.zeros(count, 1, 8, 8, dtype=torch.uint8), columns, scale)
        from PIL import Image

        width, height = Image.open(tmp_path / "a.png").size
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ds_cnn.recipes.gan_plots.LARGEST_PIXELS", width * height)
            check_size(options, images)
            patch.setattr("ds_cnn.recipes.gan_plots.LARGEST_PIXELS", width * height - 1)
            with pytest.raises(UserError, match=f"a picture of {height} x {width} pixels"):
                check_size(options, images)


def test_a_judge_is_given_or_trained(capsys, tmp_path):
    words = ["train", "dcgan", "--out", str(tmp_path / "run"), "--judge", "runs/cnn", "--judge-epochs", "3"]
    assert main(words) == 2
    assert "--judge runs/cnn and --judge-epochs 3 contradict each other" in capsys.readouterr().err
    assert main(["train", "dcgan", "--out", str(tmp_path / "run"), "--judge", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    options = find_recipe("dcgan").options
    assert options().judge_epochs == 30
    assert options(dataset="mnist").judge_epochs == 2
    assert options(dataset="mnist", judge=Path("runs/cnn")).judge_epochs is None


def test_a_shorter_run_is_refused_in_rounds(trained, capsys):
    folder, name = trained
    assert main(["train", name, "--out", str(folder), "--resume", "--rounds", "2"]) == 2
    steps = {"dcgan": (8, 4), "wgan": (12, 6)}[name]
    message = f"the run is at step {steps[0]} already, beyond the {steps[1]} steps of --rounds 2 asked for"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["dcgan", "wgan"])
def test_data_sets_bring_their_own_defaults(name):
    options = find_recipe(name).options
    assert options(dataset="mnist").latent_size == 100
    assert options(dataset="mnist", latent_size=7).latent_size == 7
    assert options().latent_size == 16


def test_verdict():
    def probabilities(images):
        """Of three classes: sure of the brightest's, half sure of the others'."""
        bright = images.flatten(1).amax(1) > 200
        return torch.where(bright[:, None], torch.tensor([0.02, 0.95, 0.03]), torch.tensor([0.5, 0.3, 0.2]))

    judge = Judge(probabilities, ("zero", "one", "two"), 1.0, 1.0)
    images = torch.tensor([255, 255, 0, 0], dtype=torch.uint8).view(4, 1, 1, 1)
    found = verdict(judge, images)
    assert (found.confident, found.by_class, found.classes) == (0.5, {"zero": 0, "one": 2, "two": 0}, 1)


def test_the_judge_learns_digits():
    data = data_set("digits", None, 0.1, 0.1, 0, None)
    judge = train_judge(data, 12, 0, torch.device("cpu"))
    assert judge.accuracy > 0.9
    assert verdict(judge, data.test.tensors[0]).classes == 10
    again = train_judge(data, 1, 0, torch.device("cpu"))
    assert again.accuracy == train_judge(data, 1, 0, torch.device("cpu")).accuracy


def test_a_judge_out_of_a_run_folder(tmp_path):
    folder = tmp_path / "cnn"
    words = "--filters 8 --epochs 8 --evaluate-every 4 --dropout 0 --lr 0.01 --no-plots --threads 1"
    assert main(["train", "cnn", "--out", str(folder), *words.split()]) == 0
    data = data_set("digits", None, 0.1, 0.1, 0, None)
    judge = load_judge(folder, data, None, "cpu")
    assert judge.class_names == data.format.class_names
    assert judge.accuracy > 0.5
    run = tmp_path / "run"
    words_for_a_judge = WORDS["dcgan"].replace("--judge-epochs 1 ", "").split()
    assert main(["train", "dcgan", "--out", str(run), *words_for_a_judge, "--judge", str(folder)]) == 0
    assert json.loads((run / "results.json").read_text())["judge"]["accuracy"] == pytest.approx(judge.accuracy)
    with pytest.raises(UserError, match="holds a run of dcgan, expected one of cnn"):
        load_judge(run, data, None, "cpu")
    with pytest.raises(UserError, match="has learned digits, expected mnist"):
        load_judge(folder, replace(data, source="mnist"), None, "cpu")


def test_pixels():
    images = torch.tensor([-1.0, 0.0, 1.0, -1.2, 1.2]).view(5, 1, 1, 1)
    assert of_8_bits(images).flatten().tolist() == [0, 128, 255, 0, 255]
    assert torch.equal(latent(3, 2, 5, 0), latent(4, 2, 5, 0)[:3])
    assert not torch.equal(latent(3, 2, 5, 0), latent(3, 2, 5, 1))


def test_the_files_are_where_the_recipes_say():
    assert {Path(name).suffix for name in ("samples.png", "walks.png")} == {".png"}
