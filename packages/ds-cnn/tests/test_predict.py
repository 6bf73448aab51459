"""`ds predict` and `ds watch`: what is done with a trained network."""

import json
import shutil

import pytest
import torch
from ds_cnn import Conv2d, convolution, read_image, write_image
from ds_cnn.recipes.cnn import CNNRun
from ds_cnn.recipes.image_format import ImageFormat
from ds_cnn.recipes.trained import load_trained
from ds_cnn.recipes.watch import shaded, show_convolution
from ds_core import UserError
from ds_core.activations.softmax import softmax
from ds_core.cli.main import main
from image_folders import stripes, write_folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of images, and trained runs of three recipes on them or on digits."""
    root = tmp_path_factory.mktemp("predict")
    write_folder(root / "images")
    data = f"--images {root}/images --image-size 8 --threads 1 --no-plots"
    runs = {
        "cnn": f"{data} --filters 4 --convolutions 1 --epochs 15 --batch-size 10 --lr 0.02",
        "resnet": f"{data} --steps 6 --lr 0.01 --grey",
        "cnn-loops": "--filters 2 --steps 2 --batch-size 2 --measured 2 --evaluate-every 1 --no-plots",
    }
    for name, words in runs.items():
        assert main(["train", name, "--out", str(root / name), *words.split()]) == 0
    write_image(root / "large.png", stripes(True, 1, 8, 99)[0].repeat_interleave(5, 1).repeat_interleave(5, 2))
    write_image(root / "grey.png", stripes(False, 1, 8, 98, channels=1)[0])
    (root / "text.png").write_text("no image")
    return root


def predicted(capsys, *words):
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def refused(capsys, *words):
    capsys.readouterr()
    status = main([*map(str, words)])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert status in (1, 2)
    return error


def test_images_of_any_size_in_colours_or_grey(root, capsys):
    rows = predicted(capsys, root / "cnn", "--image", root / "large.png", root / "grey.png", "--top", 1)
    assert rows[0] == ["image", "class", "probability"]
    assert [row[:2] for row in rows[1:]] == [[str(root / "large.png"), "upright"], [str(root / "grey.png"), "level"]]


def test_the_probabilities_are_the_networks(root, capsys):
    rows = predicted(capsys, root / "cnn", "--image", root / "large.png")
    assert rows[0] == ["image", "class", "probability", "2.", "probability"]
    trained = load_trained(CNNRun, root / "cnn", "best", "cpu")
    logits = trained.model(trained.normalise(read_image(root / "large.png", 8).unsqueeze(0)))
    expected = softmax(logits.detach(), 1).sort(1, descending=True)
    assert [rows[1][1], rows[1][3]] == [trained.format.class_names[number] for number in expected.indices[0]]
    assert [float(rows[1][2]), float(rows[1][4])] == pytest.approx(expected.values[0].tolist(), abs=5e-5)


def test_light_and_dark_exchanged(root, tmp_path, capsys):
    images = {name: read_image(root / "large.png", channels=3) for name in ("as it is", "inverted")}
    write_image(tmp_path / "inverted.png", 255 - images["inverted"])
    rows = predicted(capsys, root / "cnn", "--image", root / "large.png")
    inverted = predicted(capsys, root / "cnn", "--image", tmp_path / "inverted.png", "--invert")
    assert rows[1][1:] == inverted[1][1:]
    assert rows[1][1:] != predicted(capsys, root / "cnn", "--image", tmp_path / "inverted.png")[1][1:]


@pytest.mark.parametrize("recipe", ["cnn", "resnet", "cnn-loops"])
def test_every_image_of_a_folder(recipe, root, capsys):
    rows = predicted(capsys, root / recipe, "--images", root / "images" / "level", "--weights", "last")
    assert [row[0] for row in rows[1:]] == sorted(str(path) for path in (root / "images" / "level").iterdir())
    assert len(predicted(capsys, root / recipe, "--images", root / "images")) == 25
    error = refused(capsys, "predict", root / recipe, "--images", root)
    assert f"{root / 'text.png'} is not an image" in error
    assert len(predicted(capsys, root / recipe, "--images", root, "--skip-faulty")) == 27


@pytest.mark.parametrize("recipe", ["cnn", "resnet", "cnn-loops"])
def test_grad_cam_is_drawn(recipe, root, tmp_path, capsys):
    path = tmp_path / "heat.png"
    words = [root / recipe, "--image", root / "large.png", root / "grey.png"]
    rows = predicted(capsys, *words, "--grad-cam", path)
    assert rows[-1] == ["drawn", "in", str(path)]
    assert path.read_bytes().startswith(b"\x89PNG")
    predicted(capsys, *words, "--grad-cam", path, "--layer", "features.0" if recipe == "cnn" else "conv1")


def test_what_cannot_be_predicted(root, tmp_path, capsys):
    run, image = root / "cnn", root / "large.png"
    (tmp_path / "empty").mkdir()
    for words, message in {
        (run,): "predict of which image? give --image FILE",
        (run, "--image", tmp_path / "none.png"): f"cannot read {tmp_path / 'none.png'}",
        (run, "--image", root / "text.png"): "is not an image in one of the formats",
        (run, "--image", root / "text.png", "--skip-faulty"): "no image is left",
        (run, "--images", tmp_path / "empty"): "empty has no images in it, or in the folders in it",
        (run, "--images", tmp_path / "none"): "cannot read the folder",
        (run, "--image", image, "--top", "0"): "--top: given 0",
        (run, "--image", image, "--grad-cam", tmp_path / "h.jpg"): "h.jpg: pictures are written as PNG, expected a",
        (run, "--image", image, "--layer", "features"): "--layer is about the picture of --grad-cam",
        (run, "--image", image, "--grad-cam", tmp_path / "h.png", "--layer", "featurs"): "did you mean features",
        (run, "--image", image, "--grad-cam", tmp_path / "none" / "h.png"): "cannot write",
        (run, "--image", image, "--grad-cam", tmp_path / "h.png", "--layer", "classifier"): "expected feature maps",
        (tmp_path / "empty", "--image", image): "no run to predict with: looked for recipe.json",
        (run, "--image", image, "--device", "abacus"): "--device abacus cannot be used here",
    }.items():
        assert message in refused(capsys, "predict", *words), words


def test_a_damaged_run_folder(root, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["predict", run, "--image", root / "large.png"]
    shutil.copytree(root / "cnn", run)
    (run / "images.json").write_text('{"channels": 2}')
    assert f"{run / 'images.json'} does not say what images the network takes" in refused(capsys, *words)
    (run / "images.json").unlink()
    assert f"cannot read {run / 'images.json'}" in refused(capsys, *words)
    values = json.loads((root / "cnn" / "images.json").read_text())
    (run / "images.json").write_text(json.dumps({**values, "class_names": ["a", "b", "c"]}))
    assert "best.safetensors" in refused(capsys, *words)  # the weights are of two classes
    shutil.copy(root / "cnn" / "images.json", run)
    (run / "best.safetensors").unlink()
    assert "has no best.safetensors yet, so no best weights: try --weights last" in refused(capsys, *words)
    predicted(capsys, *words[1:], "--weights", "last")


def test_what_is_written_about_the_images(tmp_path):
    written = ImageFormat(1, 8, 9, ("a", "ß"), (0.1,), (3.0,))
    written.save(tmp_path)
    assert ImageFormat.load(tmp_path) == written
    assert str(written) == "1 x 8 x 9"
    values = json.loads((tmp_path / "images.json").read_text())
    for change in ({"std": [0.0]}, {"mean": []}, {"class_names": []}, {"height": 0}, {"channels": "x"}):
        (tmp_path / "images.json").write_text(json.dumps({**values, **change}))
        with pytest.raises(UserError, match="does not say what images"):
            ImageFormat.load(tmp_path)


def test_watch_shows_every_window(root, capsys):
    capsys.readouterr()
    assert main(["watch", str(root / "cnn-loops"), "--filter", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("sum of the products") == 36
    assert "row 5, column 5 of the feature map" in printed
    assert "the feature map of filter 1" in printed
    assert main(["watch", str(root / "cnn-loops"), "--windows", "2"]) == 0
    assert capsys.readouterr().out.count("sum of the products") == 2
    assert "--filter: given 2, expected at most 1" in refused(capsys, "watch", root / "cnn-loops", "--filter", 2)
    assert "--number: given 180" in refused(capsys, "watch", root / "cnn-loops", "--number", 180)
    assert "which has no ds watch" in refused(capsys, "watch", root / "cnn")


def test_the_numbers_that_are_watched(capsys):
    layer = Conv2d(2, 3, 2, stride=2, padding=1)
    image = torch.randn(1, 2, 3, 3)
    show_convolution(image, layer, filter=1)
    printed = capsys.readouterr().out
    expected = convolution(image, layer.weight, layer.bias, (2, 2), (1, 1), (1, 1), 1)[0, 1].detach()
    sums = [float(line.split("=")[1]) for line in printed.splitlines() if line.startswith("sum of")]
    assert sums == pytest.approx(expected.flatten().tolist(), abs=5.1e-4)
    assert shaded(torch.tensor([[0.0, 0.5], [1.0, 0.0]])) == "  ==\n@@  ".replace("==", "++")
    assert shaded(torch.ones(1, 2)) == "    "
