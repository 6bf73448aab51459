"""The recipe `miniclip`: what a run learns, prints and leaves behind, what it begins with, and `ds predict`."""

import json
import math
import shutil

import pytest
import safetensors.torch
import torch
import transformers
from clip_cases import small_config, small_model
from ds_core.cli.main import main
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_zoo import MiniCLIP
from ds_zoo.miniclip.caption_tokenizer import CaptionTokenizer
from ds_zoo.miniclip.recipe import load_clip
from ds_zoo.miniclip.run import LARGEST_SCALE
from ds_zoo.scenes import Scenes
from ds_zoo.vision.image_processor import ExactSize, ImageProcessor
from PIL import Image
from tiny_miniclip import fine_tuning_words, words, write_images


@pytest.fixture
def ds(capsys):
    """A command; what it returned, printed and complained about."""

    def command(*arguments):
        capsys.readouterr()
        return main([str(argument) for argument in arguments]), *capsys.readouterr()

    return command


@pytest.fixture
def complaint():
    """The one line that a failed command ends with."""

    def line(result):
        status, _, complaints = result
        assert status not in (0, None)
        assert "Traceback" not in complaints
        return complaints.rstrip().splitlines()[-1]

    return line


@pytest.fixture(scope="session")
def scenes_run(tmp_path_factory):
    """A folder with a finished run on scenes in it, and an image."""
    folder = tmp_path_factory.mktemp("clip")
    image = Scenes(48, 1, part="held_out").scene(0).image
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "digit.png")
    assert main(["train", "miniclip", "--out", f"{folder}/out", *words(steps=6, evaluate_every=3)]) == 0
    return folder


@pytest.fixture
def pretrained(tmp_path):
    """A folder as transformers writes one: model, tokenizer, image processor."""
    tokenizer = CaptionTokenizer.train([f"a red green blue picture number {n}" for n in range(10)], 12)
    text = {"vocab_size": tokenizer.vocab_size, "max_length": 12, "end_token": tokenizer.end_token}
    model = small_model(small_config(text, {"image_size": 16}), dtype=torch.float32)
    folder = tmp_path / "pretrained"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ImageProcessor(ExactSize(16, 16), kind="CLIPImageProcessor").save_pretrained(folder)
    return folder


def test_a_run_leaves_what_transformers_reads(scenes_run):
    out = scenes_run / "out"
    results = json.loads((out / "results.json").read_text())
    assert {"validation loss", "image by caption, recall@1", "caption by image, recall@5", "zero-shot accuracy"} <= set(
        results
    )
    assert (out / "similarity.png").exists()
    theirs = transformers.CLIPModel.from_pretrained(out).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    model, own, processor = load_clip(out)
    captions = ["a three", "a large red seven above a small blue one"]
    inputs = tokenizer(captions, padding=True, return_tensors="pt")
    images = processor.read(scenes_run / "digit.png").unsqueeze(0)
    expected = theirs(**inputs, pixel_values=images)
    model.eval()
    torch.testing.assert_close(model.text_features(own.encode(captions)), expected.text_embeds.detach())
    torch.testing.assert_close(model.image_features(images), expected.image_embeds.detach())


def test_the_last_weights(scenes_run, ds, complaint, tmp_path):
    out = shutil.copytree(scenes_run / "out", tmp_path / "out")
    for best in ("best.safetensors", "model.safetensors"):
        (out / best).unlink()
    ask = ("predict", out, "--image", scenes_run / "digit.png", "--text", "a three", "a seven")
    assert "--weights last takes the last checkpoint" in complaint(ds(*ask))
    assert ds(*ask, "--weights", "last")[0] == 0
    stored = safetensors.torch.load_file(out / CHECKPOINT_FILE)
    for parameter, value in load_clip(out, "last")[0].state_dict().items():
        assert torch.equal(value, stored[f"model.{parameter}"])


def test_log_holds_the_metrics(scenes_run):
    lines = [json.loads(line) for line in (scenes_run / "out" / "log.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "recall_at_1" in line]
    assert [line["step"] for line in measured] == [3, 6]
    assert all(0 <= line["zero_shot"] <= 1 for line in measured)


def test_predict_ranks_the_texts_of_each_image(scenes_run, ds):
    image = scenes_run / "digit.png"
    status, printed, noted = ds(
        "predict", scenes_run / "out", "--image", image, image, "--text", "a three", "a seven", "a cat"
    )
    assert status == 0
    rows = [line.split("  ") for line in printed.splitlines()[1:]]
    assert len(rows) == 6
    shares = [float([cell for cell in row if cell][-2]) for row in rows]
    assert sum(shares[:3]) == pytest.approx(1, abs=2e-4)
    assert shares[:3] == sorted(shares[:3], reverse=True)
    assert "no caption had 'cat', in 'a cat'" in noted


def test_predict_with_what_cannot_be_used(scenes_run, ds, complaint, tmp_path):
    out, image = scenes_run / "out", scenes_run / "digit.png"
    assert "give --image FILE" in complaint(ds("predict", out, "--text", "a"))
    assert "rank which texts?" in complaint(ds("predict", out, "--image", image))
    assert "text 2 of 2 is empty" in complaint(ds("predict", out, "--image", image, "--text", "a", " "))
    assert "nowhere.png" in complaint(ds("predict", out, "--image", "nowhere.png", "--text", "a"))
    (tmp_path / "text.png").write_text("no image")
    assert "text.png" in complaint(ds("predict", out, "--image", tmp_path / "text.png", "--text", "a"))
    long = " ".join(["a"] * 40)
    assert "the model reads at most 12" in complaint(ds("predict", out, "--image", image, "--text", long))


def test_predict_before_the_first_evaluation_and_with_damaged_files(scenes_run, ds, complaint, tmp_path):
    import shutil

    out = tmp_path / "out"
    shutil.copytree(scenes_run / "out", out)
    ask = ("predict", out, "--image", scenes_run / "digit.png", "--text", "a")
    weights = out / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-9])
    assert "not a whole safetensors file" in complaint(ds(*ask))
    weights.write_bytes(whole)
    (out / "tokenizer.json").write_text("{}")
    assert "is not a tokenizer" in complaint(ds(*ask))
    weights.unlink()
    assert "there has been no evaluation yet" in complaint(ds(*ask))


def test_the_scale_is_clamped_after_each_step(pretrained, tmp_path, ds):
    """Begun with a scale of e^9."""
    model = MiniCLIP.from_pretrained(pretrained)
    with torch.no_grad():
        model.similarity.logit_scale.fill_(9.0)
    model.save_pretrained(pretrained)
    images = write_images(tmp_path / "mine")
    status, _, _ = ds(
        *("train", "miniclip", "--out", tmp_path / "out", "--images-captions", images),
        *("--from-pretrained", pretrained, *fine_tuning_words(lr=1e-6, min_lr=1e-6, warmup_steps=0)),
    )
    assert status == 0
    tensors = safetensors.torch.load_file(tmp_path / "out" / CHECKPOINT_FILE)
    assert float(tensors["model.similarity.logit_scale"]) == pytest.approx(LARGEST_SCALE)
    assert math.exp(LARGEST_SCALE) == pytest.approx(100)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"freeze": "text"},
        {"layer_decay": 0.5},
        {"lora_rank": 2, "lora_targets": "attention"},
        {"dtype": "bfloat16"},
        {"accumulate": 2},
    ],
)
def test_fine_tuning(more, pretrained, tmp_path, ds):
    images = write_images(tmp_path / "mine")
    begun = safetensors.torch.load_file(pretrained / "model.safetensors")
    status, _, _ = ds(
        *("train", "miniclip", "--out", tmp_path / "out", "--images-captions", images),
        *("--from-pretrained", pretrained, *fine_tuning_words(lr=1e-2, **more)),
    )
    assert status == 0
    ended = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    assert ended.keys() == begun.keys()  # LoRA's updates are folded in
    moved = {name for name in begun if not torch.equal(begun[name].to(ended[name].dtype), ended[name])}
    if "freeze" in more:
        assert not [name for name in moved if name.startswith("text_")]
    if "lora_rank" in more:
        assert moved == {name for name in begun if "self_attn" in name and "proj.weight" in name} - {
            name for name in begun if "out_proj" in name
        }
    assert any(name.startswith("vision_model") for name in moved)
    assert MiniCLIP.from_pretrained(tmp_path / "out").config == MiniCLIP.from_pretrained(pretrained).config
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_pretrained_folders_that_do_not_fit(pretrained, tmp_path, ds, complaint):
    images = write_images(tmp_path / "mine")
    train = ("train", "miniclip", "--out", tmp_path / "out", "--images-captions", images, "--from-pretrained")
    assert "does not exist" in complaint(ds(*train, tmp_path / "nowhere", *fine_tuning_words()))
    processor = pretrained / "preprocessor_config.json"
    kept = processor.read_text()
    ImageProcessor(ExactSize(24, 24), kind="CLIPImageProcessor").save_pretrained(pretrained)
    assert "makes images of 24 x 24, but the model takes 16 x 16" in complaint(
        ds(*train, pretrained, *fine_tuning_words())
    )
    processor.write_text(kept)
    config = pretrained / "config.json"
    fields = json.loads(config.read_text())
    fields["text_config"]["eos_token_id"] = 3
    config.write_text(json.dumps(fields))
    assert "but the model looks for 3" in complaint(ds(*train, pretrained, *fine_tuning_words()))
    fields["text_config"]["hidden_act"] = "gelu"
    config.write_text(json.dumps(fields))
    assert "hidden_act is 'gelu'" in complaint(ds(*train, pretrained, *fine_tuning_words()))
    assert not (tmp_path / "out").exists()


def test_captions_that_cannot_be_used(tmp_path, ds, complaint):
    folder = write_images(tmp_path / "mine")
    table = folder / "metadata.jsonl"
    lines = table.read_text().splitlines()
    train = ("train", "miniclip", "--out", tmp_path / "out", "--images-captions", folder, *words(max_length=16))
    for changed, message in (
        ('{"image": "0.png", "text": " "}', "line 1: the caption of 0.png is empty"),
        ('{"image": "nowhere.png", "text": "a"}', "nowhere.png is not there"),
        (json.dumps({"image": "0.png", "text": " ".join(["a"] * 40)}), "the model reads at most 16"),
        ('{"image": "none.png", "text": "a cat"}', "none.png is not an image in one of the formats"),
        ('{"image": "0.png", "text": }', "line 1: not JSON (Expecting value, column"),
    ):
        (folder / "none.png").write_text("no image")
        table.write_text("\n".join([changed, *lines[1:]]))
        assert message in complaint(ds(*train))
    table.write_text("\n".join(json.dumps({**json.loads(line), "text": "the same"}) for line in lines))
    assert "captions to train on are the same, 'the same'" in complaint(ds(*train))
    assert not (tmp_path / "out").exists()


def test_a_model_that_reads_less_than_scenes_need(pretrained, tmp_path, ds, complaint):
    fields = json.loads((pretrained / "config.json").read_text())
    fields["text_config"]["max_position_embeddings"] = 7
    (pretrained / "config.json").write_text(json.dumps(fields))
    weights = safetensors.torch.load_file(pretrained / "model.safetensors")
    name = "text_model.embeddings.position_embedding.weight"
    safetensors.torch.save_file({**weights, name: weights[name][:7].clone()}, pretrained / "model.safetensors")
    found = complaint(ds("train", "miniclip", "--out", tmp_path / "o", "--from-pretrained", pretrained))
    assert "--from-pretrained: the model reads at most 7 tokens, but captions of --digits 2 have up to" in found
    assert not (tmp_path / "o").exists()


def test_texts_without_a_form(scenes_run, ds, complaint):
    image = scenes_run / "digit.png"
    found = complaint(ds("predict", scenes_run / "out", "--image", image, "--text", "caf\udce9"))
    assert "has no UTF-8 form" in found


def test_check(ds):
    for more in ((), ("--plain",)):
        status, printed, _ = ds("check", "miniclip", *more)
        assert status == 0
        assert "similarity: Similarity()" in printed
        assert "ok: all gradients agree" in printed


def test_presets_and_what_follows_from_what_is_given():
    from ds_zoo.miniclip.options import MiniCLIPOptions

    photos = MiniCLIPOptions(preset="photos", lr=2e-3)
    assert (photos.vision_layers, photos.vocabulary, photos.batch_size) == (6, "bpe", 128)
    assert photos.min_lr == pytest.approx(2e-5)  # twice the preset's
    assert MiniCLIPOptions(preset="demo").steps == 300
    assert MiniCLIPOptions(steps=50).warmup_steps == 5
    assert MiniCLIPOptions(steps=50, warmup_steps=20).warmup_steps == 20
