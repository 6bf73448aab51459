"""What a stranger may do wrong with the recipe `minivit`: one clear line each, or documented behaviour."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image
from tiny_minivit import fine_tuning_words, stripes


@pytest.fixture
def pictures(tmp_path):
    """Files of the class upright, in every kind that an image may come in."""
    pixels = (stripes(True, 1, 8, 99)[0] * 255).to(torch.uint8)
    colours = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0)))
    colours.save(tmp_path / "colours.png")
    colours.convert("L").save(tmp_path / "grey.png")
    transparent = colours.convert("RGBA")
    transparent.putalpha(200)
    transparent.save(tmp_path / "transparent.png")
    deep = np.asarray(colours.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    # lying on its side, and the camera says so
    turned = colours.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    turned.save(tmp_path / "lying.png")
    return tmp_path


@pytest.mark.parametrize("kind", ["colours", "grey", "transparent", "deep", "turned"])
def test_every_kind_of_image_is_read(kind, finished, pictures, ds):
    status, printed, _ = ds("predict", finished, "--image", pictures / f"{kind}.png")
    assert status == 0
    assert printed.splitlines()[-1].split()[1] == "upright"


def test_without_the_cameras_word_it_would_be_another_class(finished, pictures, ds):
    assert ds("predict", finished, "--image", pictures / "lying.png")[1].splitlines()[-1].split()[1] == "level"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "predict of which image? give --image FILE"),
        (("--image", "nowhere.png"), "nowhere.png"),
        (
            ("--image", "PICTURES/colours.png", "--rollout", "seen.jpg"),
            "--rollout seen.jpg: pictures are written as PNG",
        ),
        (("--image", "PICTURES/broken.png"), "broken.png"),
        (("--image", "PICTURES/text.png"), "text.png"),
        (("--images", "PICTURES/nowhere"), "cannot read the folder"),
        (("--image", "PICTURES/colours.png", "--grad-cam", "a.png"), "--grad-cam"),
    ],
)
def test_what_cannot_be_predicted(arguments, message, finished, pictures, ds, complaint):
    (pictures / "broken.png").write_bytes((pictures / "colours.png").read_bytes()[:60])
    (pictures / "text.png").write_text("no image")
    words_ = [word.replace("PICTURES", str(pictures)) for word in arguments]
    assert message in complaint(ds("predict", finished, *words_))


def test_faulty_files_may_be_left_out(finished, pictures, ds):
    (pictures / "broken.png").write_bytes((pictures / "colours.png").read_bytes()[:60])
    status, printed, notes = ds("predict", finished, "--images", pictures, "--skip-faulty")
    assert status == 0
    assert "broken.png" not in printed
    assert "broken.png" in notes


def damage_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-30])


def turn_a_bit(folder):
    path = folder / "model.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-10] ^= 4
    path.write_bytes(bytes(whole))


def change_config(folder, **fields):
    given = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**given, **fields}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weights, "not a whole safetensors file"),
        (turn_a_bit, "does not have the checksum"),
        (lambda folder: change_config(folder, hidden_act="relu"), "hidden_act is 'relu'"),
        (lambda folder: change_config(folder, model_type="bert"), "model_type is 'bert'"),
        (lambda folder: change_config(folder, num_hidden_layers=3), "is of another model"),
        (lambda folder: (folder / "config.json").unlink(), "config.json does not exist"),
        (lambda folder: (folder / "images.json").unlink(), "cannot read"),
        (lambda folder: (folder / "images.json").write_text("{}"), "does not say what images the network takes"),
    ],
)
def test_damaged_run_folders(damage, message, trained, pictures, ds, complaint):
    damage(trained)
    assert message in complaint(ds("predict", trained, "--image", pictures / "colours.png"))


def test_pretrained_folders_that_do_not_fit(images, finished, ds, complaint, tmp_path):
    def tried(folder, **options):
        given = fine_tuning_words(epochs=1, **options)
        return complaint(
            ds(
                "train",
                "minivit",
                "--images",
                images / "images",
                "--out",
                tmp_path / "out",
                "--from-pretrained",
                folder,
                *given,
            )
        )

    transformers.BertModel(
        transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ).save_pretrained(tmp_path / "bert")
    assert "model_type is 'bert'; MiniViT reads only 'vit'" in tried(tmp_path / "bert")
    assert "no model in nowhere: config.json does not exist" in tried("nowhere")
    damaged = shutil.copytree(finished, tmp_path / "damaged")
    damage_weights(damaged)
    assert "not a whole safetensors file" in tried(damaged)
    torch.save({}, tmp_path / "bert" / "pytorch_model.bin")
    (tmp_path / "bert" / "model.safetensors").unlink()
    change_config(tmp_path / "bert", model_type="vit", architectures=["ViTModel"], image_size=8, patch_size=2)
    assert "is a pickle" in tried(tmp_path / "bert")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_colours_for_a_model_of_grey_images(images, ds, complaint, tmp_path):
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=8,
        patch_size=2,
        num_channels=2,
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "two")
    found = ds(
        *("train", "minivit", "--images", images / "images", "--out", tmp_path / "out"),
        *("--from-pretrained", tmp_path / "two", *fine_tuning_words(epochs=1)),
    )
    assert "the model sees images of 2 channel(s), but these have 3" in complaint(found)


def test_patches_larger_than_the_images(images, ds, complaint, tmp_path):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32, patch_size=16
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "large")
    found = ds(
        *("train", "minivit", "--images", images / "images", "--out", tmp_path / "out"),
        *("--from-pretrained", tmp_path / "large", *fine_tuning_words(epochs=1)),
    )
    assert "patches of 16 pixels are larger than the images of 8 x 8" in complaint(found)


def test_a_folder_of_another_recipe(ds, complaint, tmp_path, finished):
    (tmp_path / "run").mkdir()
    assert "predict" in complaint(ds("predict", tmp_path / "run", "--image", "a.png"))


def test_weights_in_another_dtype_are_cast(trained, pictures, ds):
    tensors = safetensors.torch.load_file(trained / "model.safetensors")
    safetensors.torch.save_file({name: t.double() for name, t in tensors.items()}, trained / "model.safetensors")
    status, printed, _ = ds("predict", trained, "--image", pictures / "colours.png")
    assert status == 0
    assert "upright" in printed
