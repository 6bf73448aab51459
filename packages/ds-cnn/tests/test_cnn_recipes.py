"""What every recipe must survive, of the recipes for images; their mistakes; and that they learn."""

import copy
import json

import pytest
import torch
from ds_cnn import load_image_folder, read_image, write_image
from ds_cnn.recipes.cnn_loops import CNNLoopsRun, loop_network
from ds_cnn.recipes.messages import typed
from ds_core import UserError, record
from ds_core.cli.main import main
from ds_core.testing import RECIPE_PARTS, check_recipe
from image_folders import write_folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders that lie where they are for all parts of a check."""
    root = tmp_path_factory.mktemp("folders")
    write_folder(root / "images")
    write_folder(root / "other", seed=7)
    write_folder(root / "small", size=4)
    (root / "alone" / "level").mkdir(parents=True)
    write_image(root / "alone" / "level" / "0.png", torch.zeros(1, 8, 8))
    few = write_folder(root / "few", count=3)
    (few / "upright" / "0.png").unlink()
    damaged = write_folder(root / "damaged", count=4)
    (damaged / "level" / "1.png").write_bytes((damaged / "level" / "1.png").read_bytes()[:40])
    (damaged / "upright" / "notes.txt").write_text("none")
    return root


def results(folder):
    return json.loads((folder / "results.json").read_text())


def in_folders(mistakes, folders):
    return {words.replace("FOLDERS", str(folders)): message for words, message in mistakes.items()}


DATA_MISTAKES = {
    "--dataset minst": "did you mean mnist",
    "--validation 0.5 --test 0.5": "leave less than a tenth",
    "--images FOLDERS/none": "cannot read the folder",
    "--images FOLDERS/alone": "has images of one class alone, 'level', expected a folder for each of two",
    "--images FOLDERS/few": "upright has 2 image(s), expected 3 at least",
    "--images FOLDERS/damaged": "--skip-faulty leaves out what cannot be used",
    "--images FOLDERS/alone/level": "has no folders in it, expected one for each class",
    "--images FOLDERS/small --image-size 2": "images of 2 x 2 pixels are too small",
    "--images FOLDERS/images --image-size 0": "--image-size: given 0, expected at least 1",
    "--images FOLDERS/images --folder FOLDERS": "--images and --folder contradict each other",
}
# These need a line of words without --images
NAMED_MISTAKES = {
    "--image-size 8": "--image-size is about the images of --images, which is not given",
    "--grey": "--grey is about the images of --images",
    "--skip-faulty": "--skip-faulty is about the images of --images",
    "--dataset mnist --folder nowhere": "nowhere",
    "--dataset cifar10 --folder nowhere": "nowhere",
    "--folder nowhere": "digits comes with scikit-learn",
}


def check_cnn(folders, part):
    check_recipe(
        "cnn",
        f"--images {folders}/images --image-size 8 --filters 2 3 --convolutions 1 --epochs 3 --batch-size 12 "
        "--evaluate-every 1 --flip",
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={"--filters 4": "--filters: given [4], the run began with [2, 3]"},
        other_data=f"--images {folders}/other",
        mistakes=in_folders(
            {
                **DATA_MISTAKES,
                "--filters": "--filters: given none, expected one number at least",
                "--filters 2 2 2 2": "images of 8 x 8 pixels are too small for --filters of 4 stages",
                "--convolutions 1 2 1": "given 3 numbers for 2 stages of --filters",
                "--dropout 1": "--dropout: given 1.0, expected at most 0.99",
            },
            folders,
        ),
        together="--dtype float64 --dropout 0 --optimizer sgd",
        parts=[part],
    )


def check_resnet(folders, part):
    check_recipe(
        "resnet",
        f"--images {folders}/images --image-size 8 --grey --steps 4 --batch-size 10 --lr 0.01 --evaluate-every 1",
        longer="--steps 6",
        shorter="--steps 1",
        changed={"--depth 14": "--depth: given 14, the run began with 8"},
        other_data=f"--images {folders}/other",
        mistakes=in_folders({**DATA_MISTAKES, "--depth 18": "--depth: given 18, expected one of 8, 14, 20"}, folders),
        together="--dtype float64",
        parts=[part],
    )


def check_cnn_loops(folders, part):
    check_recipe(
        "cnn-loops",
        "--filters 1 --batch-size 2 --steps 4 --evaluate-every 2 --measured 2",
        longer="--steps 6",
        shorter="--steps 1",
        changed={"--filters 2": "--filters: given 2, the run began with 1"},
        mistakes={"--filters 0": "--filters: given 0", "--measured 0": "--measured: given 0", "--dataset digits": "--"},
        parts=[part],
    )


@pytest.mark.parametrize("part", RECIPE_PARTS)
@pytest.mark.parametrize("check", [check_cnn, check_resnet, check_cnn_loops])
def test_what_every_recipe_must_survive(check, part, folders):
    check(folders, part)


@pytest.mark.parametrize("recipe", ["cnn", "resnet"])
def test_options_that_contradict_each_other(recipe, tmp_path, capsys):
    for words, message in NAMED_MISTAKES.items():
        assert main(["train", recipe, "--out", str(tmp_path / "run"), *words.split()]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["cnn", "resnet"])
def test_a_shift_leaves_something_of_an_image(recipe, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", recipe, "--out", str(run), "--shift", "8"]) == 2
    assert "--shift 8: the images have 8 x 8 pixels, expected at most 7" in capsys.readouterr().err
    assert not run.exists()


def test_a_shorter_run_is_refused_in_epochs(tmp_path, capsys):
    words = ["train", "cnn", "--out", str(tmp_path / "run"), *["--filters", "1", "--convolutions", "1", "--no-plots"]]
    assert main([*words, "--epochs", "2"]) == 0
    assert main([*words, "--resume", "--epochs", "1"]) == 2
    message = "the run is at step 46 already, beyond the 23 steps of --epochs 1 asked for"
    assert message in capsys.readouterr().err


def test_errors_of_images_name_options(folders, tmp_path):
    """What a Python program would be told to give is nothing that can be typed."""
    root = folders / "images"
    path = next(path for path in root.rglob("*.png"))
    for read, message in (
        (lambda: read_image(path, largest_pixels=1), "pixels, expected at most 1 in all; make it smaller"),
        (lambda: load_image_folder(root, 8, largest_bytes=1), "MB: give a smaller --image-size, or fewer images"),
    ):
        with pytest.raises(UserError) as caught:
            read()
        words = str(typed(caught.value))
        assert words.endswith(message)
        assert "largest" not in words


def test_a_folder_of_images_beyond_memory(folders, tmp_path, capsys):
    words = ["train", "cnn", "--out", str(tmp_path / "run"), "--images", str(folders / "images")]
    assert main([*words, "--image-size", "30000"]) == 2
    error = capsys.readouterr().err
    assert "give a smaller --image-size, or fewer images" in error
    assert "largest_bytes" not in error


def test_cnn_learns_and_draws(folders, tmp_path, capsys):
    words = (
        f"--images {folders}/images --image-size 8 --filters 4 --convolutions 1 --epochs 15 --batch-size 10 --lr 0.02"
    )
    assert main(["train", "cnn", "--out", str(tmp_path / "run"), "--threads", "1", *words.split()]) == 0
    printed = capsys.readouterr().out
    assert "learn" in printed
    assert "2 classes of images 3 x 8 x 8, 19 to train on, 3 to validate on, 2 to test on" in printed
    assert "level" in printed
    found = results(tmp_path / "run")
    assert found["test"]["accuracy"] == 1
    assert found["test by class"]["upright"] == {"precision": 1, "recall": 1, "F1": 1, "rows": 1}
    for name in ("confusion", "filters", "feature_maps", "wrong", "grad_cam", "loss"):
        assert (tmp_path / "run" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def fast(network):
    """The same network without loops."""
    for layer in (network.conv1, network.pool, network.conv2):
        layer.implementation = "vectorized"
    return network


def test_cnn_loops_learns(tmp_path, capsys, monkeypatch):
    """The loss halves; by the vectorized forms of its layers, so as not to wait, which the next test says are equal."""
    made = CNNLoopsRun.network
    monkeypatch.setattr(CNNLoopsRun, "network", staticmethod(lambda options, images: fast(made(options, images))))
    assert main(["train", "cnn-loops", "--out", str(tmp_path / "run"), "--threads", "1", "--no-plots"]) == 0
    found = results(tmp_path / "run")
    assert found["last loss"] < 0.5 * found["first loss"]
    printed = capsys.readouterr().out
    assert "loss of a batch: " in printed
    # 6 x 6 windows of 9 numbers for each of 4 filters, and one window of 9 x 4 for each of 10 classes
    assert "of an image 1,656 products in forward, 2,016 in backward" in printed


def test_the_loops_are_the_layers():
    """Every layer with products runs in loops, and gives what its vectorized form gives."""
    loops = loop_network(2, 3).double()
    assert {layer.implementation for layer in loops if hasattr(layer, "implementation")} == {"loops"}
    plain, quick = copy.deepcopy(loops), fast(loops)
    x, dy = torch.randn(1, 1, 8, 8, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
    seen = []
    for network in (plain, quick):
        with record():
            y = network(x)
            dx = network.backward(dy)
        seen.append([y, dx, *(parameter.grad for parameter in network.parameters())])
    for one, other in zip(*seen, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_watching_before_training(tmp_path, capsys):
    words = "--watch --filters 1 --batch-size 1 --steps 1 --measured 1 --no-plots"
    assert main(["train", "cnn-loops", "--out", str(tmp_path / "run"), "--threads", "1", *words.split()]) == 0
    assert capsys.readouterr().out.count("sum of the products") == 36


def test_faulty_files_are_left_out(folders, tmp_path, capsys):
    words = (
        f"--images {folders}/damaged --skip-faulty --image-size 8 --filters 2 --epochs 1 --dtype bfloat16 --no-plots"
    )
    assert main(["train", "cnn", "--out", str(tmp_path / "run"), *words.split()]) == 0
    assert "damaged without 2 faulty file(s)" in capsys.readouterr().out


def test_the_data_set_says_what_is_not_given():
    from ds_cnn.recipes.cnn import CNNOptions
    from ds_cnn.recipes.resnet import ResNetOptions

    assert CNNOptions().filters == (32, 64)
    assert CNNOptions(dataset="mnist").epochs == 5
    assert CNNOptions(dataset="mnist", epochs=7).epochs == 7
    paper = ResNetOptions(dataset="cifar10")
    assert (paper.depth, paper.steps, paper.batch_size, paper.shift, paper.flip) == (20, 64000, 128, 4, True)
    assert (paper.lr, paper.momentum, paper.weight_decay) == (0.1, 0.9, 1e-4)


def write_cifar(folder, count=10):
    """The six files of CIFAR-10's binary version, each with a few records: a label, then 3 x 32 x 32 values."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        pixels = torch.randint(256, (count, 3072), generator=generator)
        records = torch.cat([torch.arange(count).remainder(10)[:, None], pixels], 1)
        (folder / name).write_bytes(bytes(records.flatten().tolist()))


def test_resnet_on_a_sample_of_cifar10(tmp_path, capsys):
    write_cifar(tmp_path / "cifar")
    words = ["--dataset", "cifar10", "--folder", str(tmp_path / "cifar"), "--steps", "4", "--batch-size", "8"]
    run = tmp_path / "run"
    assert main(["train", "resnet", "--out", str(run), *words, "--evaluate-every", "10", "--no-plots"]) == 0
    printed = capsys.readouterr().out
    assert "ResNet-20: 269,722 parameters learn cifar10: 10 classes of images 3 x 32 x 32" in printed
    assert "airplane" in printed
    assert results(run)["steps"] == 4
    write_image(tmp_path / "photo.png", torch.rand(3, 50, 40))
    assert main(["predict", str(run), "--image", str(tmp_path / "photo.png"), "--top", "2"]) == 0
    assert "photo.png" in capsys.readouterr().out


def test_the_learning_rate_of_the_papers_recipe(tmp_path):
    """0.1, divided by 10 at 32,000 and 48,000 of 64,000 steps."""
    from ds_cnn.recipes.resnet import ResNetOptions, ResNetRun

    run = ResNetRun(ResNetOptions(dataset="cifar10", out=tmp_path / "run"))
    run.steps, run.model = run.count_steps(), torch.nn.Linear(1, 1)
    optimizer, schedule = run.make_optimizer()
    seen = {}
    for step in range(run.steps):
        if step in (0, 31_999, 32_000, 47_999, 48_000, 63_999):
            seen[step] = float(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert seen == pytest.approx({0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001})
