"""What of the recipe `minivit` is its own: the model in the run folder, predictions, rollout, fine-tuning."""

import json
import shutil

import pytest
import torch
import transformers
from ds_cnn import read_image, write_image
from ds_core.options import build_options
from ds_core.recipes.recipe import find_recipe
from ds_zoo import MiniViT
from ds_zoo.minivit.images import images_to_learn
from ds_zoo.minivit.options import MiniViTOptions
from ds_zoo.minivit.recipe import load_trained
from PIL import Image
from tiny_minivit import fine_tuning_words, stripes, words


@pytest.fixture
def picture(tmp_path):
    """An image file of the class upright."""
    write_image(tmp_path / "upright.png", stripes(True, 1, 8, 99)[0])
    return tmp_path / "upright.png"


def results(folder):
    return json.loads((folder / "results.json").read_text())


def train(ds, images, out, *more, **options):
    given = (fine_tuning_words if "--from-pretrained" in more else words)(**options)
    return ds("train", "minivit", "--images", images / "images", "--out", out, "--no-plots", *given, *more)


def test_it_learns_and_leaves_what_transformers_reads(finished, picture):
    assert results(finished)["test"]["accuracy"] == 1.0
    for name in ("loss", "confusion", "wrong", "rollout", "positions"):
        assert (finished / f"{name}.png").stat().st_size > 1000
    theirs = transformers.ViTForImageClassification.from_pretrained(finished)
    processor = transformers.ViTImageProcessorPil.from_pretrained(finished)
    assert theirs.config.id2label == {0: "level", 1: "upright"}
    image = read_image(picture, size=(8, 8))
    pixels = processor(image.numpy(), return_tensors="pt").pixel_values
    trained = load_trained(finished, "best", "cpu")
    ours = trained.normalise(image[None])
    torch.testing.assert_close(pixels, ours, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(theirs(pixels).logits, trained.model(ours), rtol=1e-4, atol=1e-4)
    assert int(theirs(pixels).logits.argmax()) == 1


@pytest.fixture
def wide_images(tmp_path):
    """Images four times as wide as high, whose class stands in the middle alone."""
    for number, name in enumerate(("level", "upright")):
        (tmp_path / "wide" / name).mkdir(parents=True)
        for index, middle in enumerate(stripes(name == "upright", 12, 8, number)):
            noise = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(index))
            write_image(tmp_path / "wide" / name / f"{index}.png", torch.cat([noise, middle, noise], 2))
    return tmp_path / "wide"


def pixels_by_transformers(folder, path):
    """What transformers' processor of a folder makes of an image file."""
    with Image.open(path) as image:
        return transformers.AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt").pixel_values


def test_images_of_other_proportions_are_the_same_to_transformers(wide_images, ds, tmp_path):
    out = tmp_path / "out"
    status, _, complaints = ds(
        *("train", "minivit", "--images", wide_images, "--out", out, "--no-plots"), *words(epochs=40, lr=1e-2)
    )
    assert status == 0, complaints
    assert results(out)["test"]["accuracy"] == 1.0
    theirs = transformers.ViTForImageClassification.from_pretrained(out)
    paths = sorted(wide_images.glob("*/*.png"))
    printed = ds("predict", out, "--images", wide_images, "--top", 1)[1].splitlines()[1:]
    assert len(printed) == len(paths) == 24
    for path, line in zip(paths, printed, strict=True):
        probabilities = theirs(pixels_by_transformers(out, path)).logits.detach().softmax(-1)[0]
        name, share = theirs.config.id2label[int(probabilities.argmax())], float(probabilities.max())
        assert line.split()[:2] == [str(path), name]
        assert float(line.split()[2]) == pytest.approx(share, abs=2e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": {"shortest_edge": 10}, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}, "resample": 3},
        {"size": {"height": 8, "width": 8}, "resample": 0, "image_mean": [0.1, 0.2, 0.3], "do_rescale": True},
    ],
)
def test_fine_tuning_sees_images_as_the_model_has_seen_them(fields, wide_images, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "pretrained")
    transformers.ViTImageProcessorPil(**fields).save_pretrained(folder)
    options = build_options(MiniViTOptions, {"from_pretrained": folder, "images": wide_images})
    data, processor = images_to_learn(options, None)
    processor.save_pretrained(tmp_path)
    expected = [pixels_by_transformers(folder, path)[0] for path in sorted(wide_images.glob("*/*.png"))]
    seen = [data.normalise(image[None])[0] for part in (data.train, data.validation) for image in part.tensors[0]]
    assert all(min(float((image - other).abs().max()) for other in expected) < 1e-5 for image in seen)
    for path in sorted(wide_images.glob("*/*.png"))[::5]:
        again = pixels_by_transformers(tmp_path, path)
        torch.testing.assert_close(again, pixels_by_transformers(folder, path), rtol=1e-5, atol=1e-5)


def test_best_and_last_weights(finished, picture, ds):
    for weights in ("best", "last"):
        status, printed, _ = ds("predict", finished, "--image", picture, "--weights", weights)
        assert status == 0
        assert printed.splitlines()[-1].split()[:2] == [str(picture), "upright"]


def test_rollout_is_drawn(finished, picture, ds, tmp_path):
    status, printed, _ = ds("predict", finished, "--image", picture, picture, "--rollout", tmp_path / "seen.png")
    assert status == 0
    assert f"drawn in {tmp_path / 'seen.png'}" in printed
    assert (tmp_path / "seen.png").stat().st_size > 1000


def test_check(ds):
    status, printed, _ = ds("check", "minivit")
    assert status == 0
    assert "ok: all gradients agree" in printed
    assert "classifier" in printed


@pytest.mark.parametrize(
    "options", [{"pooling": "mean"}, {"dtype": "bfloat16"}, {"accumulate": 2, "clip_norm": 0.5, "epochs": 80}]
)
def test_other_ways_to_train(options, images, ds, tmp_path, picture):
    assert train(ds, images, tmp_path / "out", **{"epochs": 40, "lr": 1e-2, **options})[0] == 0
    assert results(tmp_path / "out")["test"]["accuracy"] == 1.0
    status, printed, _ = ds("predict", tmp_path / "out", "--image", picture)
    assert status == 0
    assert "upright" in printed
    model = MiniViT.from_pretrained(tmp_path / "out")
    assert model.pooling == options.get("pooling", "token")
    assert model.classifier.weight.dtype == (torch.bfloat16 if "dtype" in options else torch.float32)


def test_bfloat16_reaches_the_loss_of_float32(images, ds, tmp_path):
    losses = []
    for dtype in ("float32", "bfloat16"):
        assert train(ds, images, tmp_path / dtype, epochs=60, lr=1e-2, dtype=dtype)[0] == 0
        losses.append(results(tmp_path / dtype)["train"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize(
    ("more", "trained"),
    [
        ((), None),
        (("--freeze", "vit"), {"model.classifier.weight", "model.classifier.bias"}),
        (("--freeze", "vit.tokens", "vit.blocks.0", "--layer-decay", "0.5"), None),
        (("--lora-rank", "2"), None),
    ],
)
def test_fine_tuning(more, trained, images, ds, tmp_path, finished, picture):
    out = tmp_path / "tuned"
    status, _, complaints = train(ds, images, out, "--from-pretrained", finished, *more, epochs=20, lr=5e-3)
    assert status == 0, complaints
    assert results(out)["test"]["accuracy"] == 1.0
    before, after = MiniViT.from_pretrained(finished), MiniViT.from_pretrained(out)
    unchanged = {
        f"model.{name}"
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if torch.equal(old, new)
    }
    names = {f"model.{name}" for name, _ in after.named_parameters()}
    if trained is not None:
        assert names - unchanged == trained
    elif "--lora-rank" in more:
        assert names - unchanged == {"model.classifier.weight", "model.classifier.bias"} | {
            "model.vit.blocks.0.attention.in_proj_weight"
        }
    for weights in ("best", "last"):
        assert "upright" in ds("predict", out, "--image", picture, "--weights", weights)[1]
    transformers.ViTForImageClassification.from_pretrained(out)


def test_fine_tuning_keeps_what_the_head_reads(images, ds, tmp_path, picture):
    assert train(ds, images, tmp_path / "mean", pooling="mean", epochs=1)[0] == 0
    assert train(ds, images, tmp_path / "out", "--from-pretrained", tmp_path / "mean", epochs=1)[0] == 0
    assert MiniViT.from_pretrained(tmp_path / "out").pooling == "mean"
    printed = [ds("predict", tmp_path / "out", "--image", picture, "--weights", w)[1] for w in ("best", "last")]
    assert printed[0] == printed[1] != ""
    token = ("--from-pretrained", tmp_path / "mean", "--pooling", "token")
    assert train(ds, images, tmp_path / "token", *token, epochs=1)[0] == 0
    assert MiniViT.from_pretrained(tmp_path / "token").pooling == "token"


def test_fine_tuning_on_images_of_another_size(images, ds, tmp_path, finished):
    status, _, complaints = train(ds, images, tmp_path / "out", "--from-pretrained", finished, image_size=12, epochs=3)
    assert status == 0, complaints
    config = MiniViT.from_pretrained(tmp_path / "out").config
    assert (config.image_size, config.num_tokens) == (12, 37)
    status, _, complaints = train(
        ds, images, tmp_path / "own", "--from-pretrained", finished, image_size=None, epochs=1
    )
    assert status == 0, complaints
    assert MiniViT.from_pretrained(tmp_path / "own").config.image_size == 8


def test_fine_tuning_of_a_transformers_model(images, ds, tmp_path):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=2
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "body")
    transformers.ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "body")
    out = tmp_path / "out"
    status, _, complaints = train(ds, images, out, "--from-pretrained", tmp_path / "body", image_size=None)
    assert status == 0, complaints
    taken = json.loads((out / "preprocessor_config.json").read_text())
    assert taken["image_mean"] == pytest.approx([0.5] * 3)
    assert json.loads((out / "images.json").read_text())["mean"] == pytest.approx([127.5] * 3)


def test_grey_digits_become_colours_for_a_model_of_colours(finished):
    options = build_options(MiniViTOptions, {"from_pretrained": finished, "dataset": "digits"})
    data, processor = images_to_learn(options, None)
    assert processor.channels == 3
    assert data.format.channels == 3
    image = data.train.tensors[0][0]
    assert image.shape == (3, 8, 8)
    assert torch.equal(image[0], image[2])


def test_scenes(monkeypatch):
    from ds_zoo.minivit import images

    monkeypatch.setattr(images, "_SCENES", {"train": 30, "validation": 10, "test": 12})
    data, processor = images_to_learn(MiniViTOptions(dataset="scenes"), None)
    assert processor.output_size == (32, 32)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [30, 10, 12]
    assert data.train.tensors[0].shape == (30, 3, 32, 32)
    assert not torch.equal(data.train.tensors[0][:10], data.validation.tensors[0])
    again, _ = images_to_learn(MiniViTOptions(dataset="scenes"), None)
    assert again.digest == data.digest
    assert images_to_learn(MiniViTOptions(dataset="scenes", seed=1), None)[0].digest != data.digest


def test_what_a_data_set_changes():
    recipe = find_recipe("minivit")
    assert recipe.options is MiniViTOptions
    assert MiniViTOptions().patch_size == 2
    assert MiniViTOptions(dataset="cifar10").patch_size == 4
    assert MiniViTOptions(dataset="cifar10", patch_size=8).patch_size == 8


def test_before_the_first_evaluation(trained, ds, complaint, picture):
    (trained / "model.safetensors").unlink()
    assert "--weights last takes the last checkpoint" in complaint(ds("predict", trained, "--image", picture))
    assert ds("predict", trained, "--image", picture, "--weights", "last")[0] == 0
