"""Images as models take them, held against transformers' processors on Pillow, bit for bit."""

import json

import numpy as np
import pytest
import torch
from ds_cnn import ImageError
from ds_core import CheckpointError, ShapeError
from ds_zoo.vision.image_processor import ImageProcessor, check_image_size
from ds_zoo.vision.image_steps import ExactSize, ShortestEdge
from PIL import Image
from transformers import AutoImageProcessor, CLIPImageProcessorPil, ViTImageProcessorPil

VIT = [
    {"size": {"height": 24, "width": 24}},
    {"size": {"height": 17, "width": 30}, "resample": 3, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.7]},
    {"size": {"shortest_edge": 20}, "resample": 1},
    {"size": {"height": 32, "width": 32}, "do_center_crop": True, "crop_size": {"height": 21, "width": 40}},
    {"size": {"height": 24, "width": 24}, "do_normalize": False},
    {"size": {"height": 24, "width": 24}, "do_rescale": False},
    {"size": {"height": 24, "width": 24}, "do_rescale": False, "do_normalize": False, "resample": 0},
    {"do_resize": False, "rescale_factor": 1 / 127.5},
    {"do_resize": None, "do_rescale": None},
    {"size": {"height": 24, "width": 24}, "do_normalize": None},
]
CLIP = [
    {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}},
    {"size": {"shortest_edge": 19}, "crop_size": {"height": 16, "width": 21}},
    {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 26}},
    {"size": {"height": 22, "width": 23}, "do_center_crop": False},
    {"do_resize": False, "crop_size": {"height": 29, "width": 18}},
]
CASES = [(ViTImageProcessorPil, fields) for fields in VIT] + [(CLIPImageProcessorPil, fields) for fields in CLIP]
# Landscape, portrait, square, smaller than what is asked for, extreme proportions
SHAPES = [(40, 61), (61, 40), (24, 24), (9, 13), (20, 20), (7, 90), (90, 7)]


def random_image(height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


def theirs_of(processor, image):
    return processor(image, return_tensors="pt").pixel_values[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_the_same_pixels_as_transformers(kind, fields, shape, tmp_path):
    theirs = kind(**fields)
    theirs.save_pretrained(tmp_path)
    ours = ImageProcessor.from_pretrained(tmp_path)
    image = random_image(*shape)
    expected = theirs_of(theirs, Image.fromarray(image.permute(1, 2, 0).numpy()))
    assert torch.equal(ours(image), expected.float())
    assert torch.equal(ours(torch.stack([image, image.flip(0)]))[0], expected.float())
    assert torch.equal(ours([image])[0], expected.float())
    assert ours.output_size in (None, tuple(expected.shape[1:]))


@pytest.mark.parametrize("shape", SHAPES)
def test_grey_images_as_transformers(shape, tmp_path):
    ours = ImageProcessor(ExactSize(11, 14), image_mean=(0.3,), image_std=(0.2,))
    ours.save_pretrained(tmp_path)
    assert ImageProcessor.from_pretrained(tmp_path) == ours
    image = random_image(*shape)[:1]
    picture = Image.fromarray(image[0].numpy())
    expected = theirs_of(ViTImageProcessorPil.from_pretrained(tmp_path), picture)
    assert torch.equal(ours(image), expected.float())
    picture.save(tmp_path / "grey.png")
    assert torch.equal(ours.read(tmp_path / "grey.png"), expected.float())
    assert torch.equal(ours(torch.stack([image, image.flip(2)]))[0], expected.float())
    with pytest.raises(ShapeError, match=r"expected torch.uint8 of \(1, H, W\)"):
        ours(random_image(*shape))


def test_a_file_in_colours_becomes_grey(tmp_path):
    pixels = torch.tensor([255, 0, 0], dtype=torch.uint8).expand(2, 2, 3)  # red: 76 is its grey (ITU-R 601)
    Image.fromarray(pixels.numpy()).save(tmp_path / "red.png")
    grey = ImageProcessor(rescale_factor=None, image_mean=(0.0,), image_std=(1.0,))
    assert torch.equal(grey.read(tmp_path / "red.png"), torch.full((1, 2, 2), 76.0))


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_transformers_reads_our_file(kind, fields, tmp_path):
    kind(**fields).save_pretrained(tmp_path)
    ours = ImageProcessor.from_pretrained(tmp_path)
    folder = tmp_path / "again"
    folder.mkdir()
    ours.save_pretrained(folder)
    assert ImageProcessor.from_pretrained(folder) == ours
    image = random_image(31, 45)
    for theirs in (AutoImageProcessor.from_pretrained(folder), kind.from_pretrained(folder)):
        assert isinstance(theirs, kind)
        assert torch.equal(theirs_of(theirs, image).float(), ours(image))


def test_the_defaults_of_both_kinds(tmp_path):
    for kind in (ViTImageProcessorPil, CLIPImageProcessorPil):
        theirs = kind()
        theirs.save_pretrained(tmp_path)
        bare = {"image_processor_type": kind.__name__}
        full = ImageProcessor.from_pretrained(tmp_path)
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(bare))
        assert ImageProcessor.from_pretrained(tmp_path) == full
        assert full.output_size == (224, 224)


@pytest.mark.parametrize(
    ("fields", "kind", "size", "crop_size"),
    [
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 20}, ViTImageProcessorPil, ExactSize(20, 20), None),
        ({"size": 20, "image_mean": [0.5] * 3}, ViTImageProcessorPil, ExactSize(20, 20), None),
        (
            {"image_processor_type": "ViTImageProcessorFast", "size": [20, 18]},
            ViTImageProcessorPil,
            ExactSize(20, 18),
            None,
        ),
        (
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 20, "crop_size": 18, "do_center_crop": True},
            CLIPImageProcessorPil,
            ShortestEdge(20),
            (18, 18),
        ),
        ({"size": 20, "crop_size": 18, "do_center_crop": True}, CLIPImageProcessorPil, ShortestEdge(20), (18, 18)),
    ],
)
def test_older_files(fields, kind, size, crop_size, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    ours = ImageProcessor.from_pretrained(tmp_path)
    assert (ours.size, ours.crop_size) == (size, crop_size)
    assert ours.kind + "Pil" == kind.__name__
    image = random_image(31, 45)
    assert torch.equal(ours(image), theirs_of(kind.from_pretrained(tmp_path), image))


def test_a_file_without_a_name_takes_that_of_the_model(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"size": 20}')
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    assert ImageProcessor.from_pretrained(tmp_path).size == ShortestEdge(20)
    (tmp_path / "config.json").write_text('{"model_type": "detr"}')
    with pytest.raises(CheckpointError, match=r"image_processor_type is missing, and model_type in .* is 'detr'"):
        ImageProcessor.from_pretrained(tmp_path)


def test_the_nested_file_of_newer_processors(tmp_path):
    fields = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 12}, "do_center_crop": False}
    (tmp_path / "processor_config.json").write_text(
        json.dumps({"processor_class": "CLIPProcessor", "image_processor": fields})
    )
    assert ImageProcessor.from_pretrained(tmp_path).size == ShortestEdge(12)
    (tmp_path / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    (tmp_path / "preprocessor_config.json").write_text('{"size": 20}')
    assert ImageProcessor.from_pretrained(tmp_path).size == ExactSize(20, 20)


class TestFiles:
    """What becomes of files that are no plain colour images; `as_rgb` is what transformers is then given."""

    processor = ImageProcessor(ShortestEdge(24), resample=3, crop_size=(24, 24), kind="CLIPImageProcessor")
    theirs = CLIPImageProcessorPil(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )

    def test_colour(self, tmp_path):
        Image.fromarray(random_image(30, 50).permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
        expected = theirs_of(self.theirs, Image.open(tmp_path / "a.png"))
        assert torch.equal(self.processor.read(tmp_path / "a.png"), expected)
        assert torch.equal(self.processor.read(str(tmp_path / "a.png")), expected)

    @pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
    def test_other_kinds_of_colour_as_transformers(self, mode, tmp_path):
        image = Image.fromarray(random_image(30, 50).permute(1, 2, 0).numpy())
        if mode in ("RGBA", "LA"):
            image.putalpha(Image.fromarray(random_image(30, 50, 1)[0].numpy()))
        image = image.convert(mode)
        path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
        image.save(path)
        assert torch.equal(self.processor.read(path), theirs_of(self.theirs, Image.open(path)))

    def test_a_palette_with_a_transparent_colour_as_transformers(self, tmp_path):
        image = Image.fromarray(random_image(30, 50).permute(1, 2, 0).numpy()).convert("P")
        image.save(tmp_path / "a.png", transparency=3)
        assert torch.equal(
            self.processor.read(tmp_path / "a.png"), theirs_of(self.theirs, Image.open(tmp_path / "a.png"))
        )

    def test_16_bits_are_scaled_to_8(self, tmp_path):
        """transformers leaves them to Pillow, which takes all that is above 255 for white."""
        eight = random_image(30, 50)[0].numpy()
        Image.fromarray(eight.astype(np.uint16) * 257).save(tmp_path / "a.png")
        expected = theirs_of(self.theirs, Image.fromarray(eight))
        assert torch.equal(self.processor.read(tmp_path / "a.png"), expected)
        assert not torch.equal(theirs_of(self.theirs, Image.open(tmp_path / "a.png")), expected)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_turned_as_exif_says(self, orientation, tmp_path):
        """transformers leaves them as they lie, unless it is given ImageOps.exif_transpose(image)."""
        from PIL import ImageOps

        image = Image.fromarray(random_image(30, 50).permute(1, 2, 0).numpy())
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(tmp_path / "a.png", exif=exif)
        expected = theirs_of(self.theirs, ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
        assert torch.equal(self.processor.read(tmp_path / "a.png"), expected)

    def test_bad_files(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"no image")
        with pytest.raises(ImageError, match=r"a\.png is not an image in one of the formats"):
            self.processor.read(tmp_path / "a.png")
        with pytest.raises(ImageError, match=r"cannot read .*missing\.png: No such file"):
            self.processor.read(tmp_path / "missing.png")
        Image.new("RGB", (40, 40)).save(tmp_path / "b.png")
        with pytest.raises(ImageError, match=r"b\.png has 40 x 40 pixels, expected at most 1000"):
            self.processor.read(tmp_path / "b.png", largest_pixels=1000)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"given torch.float32 of shape \(3, 8, 8\), expected torch.uint8"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), r"shape \(1, 8, 8\)"),
        (torch.zeros(8, 8, dtype=torch.uint8), r"shape \(8, 8\)"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), r"shape \(0, 3, 8, 8\)"),
        ([], "given no image"),
        (
            [torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 9, dtype=torch.uint8)],
            "come out as 8 x 8, 8 x 9",
        ),
    ],
)
def test_images_that_do_not_fit(images, message):
    with pytest.raises(ShapeError, match=message):
        ImageProcessor()(images)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"image_processor_type": "DetrImageProcessor"},
            "image_processor_type is 'DetrImageProcessor', expected one of",
        ),
        ({"feature_extractor_type": "BeitFeatureExtractor"}, "feature_extractor_type is 'BeitFeatureExtractor'"),
        ({"do_pad": True}, "do_pad is True, which is not supported: expected False"),
        ({"crop_pct": 0.9}, "crop_pct is 0.9, which is not supported: expected None"),
        ({"size": {"shortest_edge": 8, "longest_edge": 9}}, "size is .*, expected height and width, or shortest_edge"),
        ({"size": {"height": 8, "width": 0}}, "width is 0, expected a whole number of pixels"),
        ({"size": {"height": 8.0, "width": 8}}, "height is 8.0, expected a whole number of pixels"),
        ({"size": "8"}, "size is '8', expected height and width"),
        ({"do_center_crop": True}, "crop_size is None, expected height and width"),
        ({"do_center_crop": True, "crop_size": {"shortest_edge": 8}}, "crop_size is .*, expected height and width"),
        ({"resample": 9}, "resample is 9, expected the number of one of Pillow's filters, 0 to 5"),
        ({"resample": "bicubic"}, "resample is 'bicubic'"),
        ({"do_rescale": "yes"}, "do_rescale is 'yes', expected true or false"),
        ({"rescale_factor": "1/255"}, "rescale_factor is '1/255', expected a number"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean is \(0.5, 0.5\), expected three numbers or one"),
        ({"image_std": [0.5, 0.5, 0]}, r"image_std is \(0.5, 0.5, 0\), expected three numbers or one, not 0"),
        ({"image_mean": "grey"}, "image_mean is 'grey'"),
    ],
)
def test_options_that_are_not_supported(fields, message, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor"} | fields)
        if "feature_extractor_type" not in fields
        else json.dumps(fields)
    )
    with pytest.raises(CheckpointError, match=message) as caught:
        ImageProcessor.from_pretrained(tmp_path)
    assert str(tmp_path / "preprocessor_config.json") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "cannot read .*preprocessor_config.json"), ("[]", "expected a JSON object")]
)
def test_damaged_files(content, message, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        ImageProcessor.from_pretrained(tmp_path)


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json is not there: it says how images"):
        ImageProcessor.from_pretrained(tmp_path)


def test_half_a_normalisation_and_another_kind():
    with pytest.raises(ValueError, match=r"image_mean is None and image_std 0\.5, expected both or neither"):
        ImageProcessor(image_mean=None)
    with pytest.raises(ValueError, match="kind is 'Mine', expected one of"):
        ImageProcessor(kind="Mine")


def test_sizes_of_processor_and_model():
    check_image_size(ImageProcessor(ExactSize(32, 32)), 32, "folder")
    with pytest.raises(CheckpointError, match=r"config\.json makes images of 32 x 32, but the model takes 48 x 48"):
        check_image_size(ImageProcessor(ExactSize(32, 32)), 48, "folder")
    with pytest.raises(CheckpointError, match=r"makes images of different sizes, but the model takes 48 x 48"):
        check_image_size(ImageProcessor(ShortestEdge(48)), 48, "folder")


def test_worked_example():
    """That of docs/vision/image_processor.md."""
    processor = ImageProcessor(ExactSize(2, 2), resample=4, image_mean=0.5, image_std=0.25)
    halves = torch.zeros(3, 4, 4, dtype=torch.uint8)
    halves[:, :, 2:] = 255
    expected = torch.tensor([[-2.0, 2.0], [-2.0, 2.0]]).expand(3, 2, 2)
    torch.testing.assert_close(processor(halves), expected)
    halves[0, :2, :2] = torch.tensor([[0, 102], [102, 0]])
    torch.testing.assert_close(processor(halves)[0, 0, 0], torch.tensor(-1.2))
    assert pytest.approx(0.2) == 51 / 255
