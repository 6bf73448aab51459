import pytest
import torch
from ds_core import UserError
from ds_zoo.miniclip.caption_tokenizer import CaptionTokenizer
from ds_zoo.miniclip.pairs import Examples, FileBatches, Preparation, group_of, split_pairs
from ds_zoo.scenes import read_captions
from ds_zoo.vision.image_processor import ExactSize, ImageProcessor
from PIL import Image
from tiny_miniclip import write_images


@pytest.fixture
def pairs(tmp_path):
    return read_captions(write_images(tmp_path))


@pytest.fixture
def prepare(pairs):
    tokenizer = CaptionTokenizer.train(pairs.texts, 9)
    return Preparation(tokenizer, ImageProcessor(ExactSize(8, 8)), torch.device("cpu"), torch.float64)


def test_every_epoch_has_every_file_once_in_another_order(pairs, prepare):
    batches = FileBatches(pairs, prepare, 5, seed=1)
    epochs = []
    for epoch in range(2):
        found = [batches.batch(4 * epoch + position) for position in range(4)]
        epochs.append(torch.cat([inputs[1] for inputs, _ in found]))
        for (input_ids, images), groups in found:
            assert input_ids.shape == (5, 9)
            assert images.shape == (5, 3, 8, 8)
            assert images.dtype == torch.float64
            assert groups.shape == (5,)
    assert not torch.equal(*epochs)
    first, second = (sorted(images.flatten(1).sum(1).tolist()) for images in epochs)
    assert first == pytest.approx(second)
    assert torch.equal(batches.batch(6)[0][1], FileBatches(pairs, prepare, 5, seed=1).batch(6)[0][1])


def test_caption_and_image_stay_together(pairs, prepare):
    inputs, groups = FileBatches(pairs, prepare, 20, seed=0).batch(0)
    known = {group_of(text): text for text in pairs.texts}
    for input_ids, image, group in zip(*inputs, groups.tolist(), strict=True):
        text = known[group]
        assert torch.equal(input_ids, prepare.tokenizer.encode([text])[0])
        channel = int(image.sum((1, 2)).argmax())
        assert ["red", "green", "blue"][channel] in text


def test_fewer_pairs_than_a_batch_are_one_batch(pairs, prepare):
    assert len(FileBatches(pairs, prepare, 64, seed=0).batch(3)[1]) == 20


def test_equal_captions_share_a_group():
    assert group_of("a red three") == group_of("a red three") != group_of("a red four")
    assert 0 <= group_of("é") < 2**63


def test_captions_of_one_image_are_not_split(tmp_path):
    write_images(tmp_path, 10)
    table = tmp_path / "metadata.jsonl"
    table.write_text(table.read_text() + "\n" + table.read_text().replace("a ", "the "))
    training, validation = split_pairs(read_captions(tmp_path), 0.3, seed=0)
    assert (len(training), len(validation)) == (14, 6)
    assert not set(training.paths) & set(validation.paths)


def test_too_few_images(pairs):
    with pytest.raises(UserError, match=r"20 different image\(s\) and --validation 0.05 leave fewer than two"):
        split_pairs(pairs, 0.05, seed=0)


def test_distinct_examples(pairs, prepare):
    examples = Examples.of_files(pairs, prepare.processor)
    distinct = examples.distinct(100)
    assert len(set(distinct.captions)) == len(distinct) == len(set(pairs.texts))
    assert len(examples.distinct(3)) == 3


def test_an_image_that_has_gone_and_sizes_that_differ(pairs, prepare):
    loose = Preparation(prepare.tokenizer, ImageProcessor(), prepare.device, None)
    with pytest.raises(UserError, match="the images come out in different sizes"):
        FileBatches(pairs, loose, 20, seed=0).batch(0)
    pairs.paths[0].unlink()
    with pytest.raises(UserError, match=r"0\.png"):
        FileBatches(pairs, prepare, 20, seed=0).batch(0)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "P"])
def test_images_of_any_kind(mode, pairs, prepare):
    Image.new("L", (9, 9), 100).convert("L" if mode == "I;16" else mode).save(pairs.paths[0])
    if mode == "I;16":
        Image.new("I;16", (9, 9), 25_000).save(pairs.paths[0])
    assert FileBatches(pairs, prepare, 20, seed=0).batch(0)[0][1].shape == (20, 3, 8, 8)
