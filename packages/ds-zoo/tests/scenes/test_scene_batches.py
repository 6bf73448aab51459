"""Batches of scenes, and what models take of them."""

import pytest
import torch
from ds_core.data.batches import Batches
from ds_zoo.scenes import SceneBatches, Scenes, captioned, classified, describe, with_distinct_captions
from ds_zoo.scenes.scene_batches import detection_labels, segmentation_labels, stack_images


def test_a_batch_is_a_function_of_its_number():
    scenes = Scenes(48, (1, 2), seed=5)
    batches = SceneBatches(scenes, 4, captioned)
    assert isinstance(batches, Batches)
    images, captions = batches.batch(3)
    again, _ = SceneBatches(Scenes(48, (1, 2), seed=5), 4, captioned).batch(3)
    assert torch.equal(images, again)
    assert (images.shape, images.dtype, len(captions)) == ((4, 3, 48, 48), torch.uint8, 4)
    assert captions == [describe(scenes.scene(number)) for number in range(12, 16)]


def test_processes_share_a_batch():
    scenes = Scenes(48, (1, 2))
    whole, captions = SceneBatches(scenes, 7, captioned).batch(2)
    parts = [SceneBatches(scenes, 7, captioned, rank=rank, world_size=3).batch(2) for rank in range(3)]
    assert [len(part[1]) for part in parts] == [3, 2, 2]
    assert torch.equal(torch.cat([part[0] for part in parts]), whole)
    assert [text for part in parts for text in part[1]] == captions


def test_one_digit_each():
    images, labels = SceneBatches(Scenes(32, 1), 5, classified).batch(0)
    assert images.shape == (5, 3, 32, 32)
    assert labels.tolist() == [int(Scenes(32, 1).scene(number).class_labels) for number in range(5)]
    with pytest.raises(ValueError, match=r"classified: scene 0 has 2 digits, expected one in each: Scenes\(count=1\)"):
        SceneBatches(Scenes(48, 2), 5, classified).batch(0)


def test_detection_and_segmentation_take_them_as_they_are():
    """transformers' own models compute a loss of them, empty scenes among them."""
    from transformers import (
        DetrConfig,
        DetrForObjectDetection,
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
        ResNetConfig,
    )

    scenes = [Scenes(64, (0, 2), seed=1).scene(number) for number in range(4)]
    assert {len(scene) for scene in scenes} == {0, 1, 2}
    images = stack_images(scenes).float() / 255
    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic", out_features=["stage4"]
    )
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = DetrConfig(
        backbone_config=backbone,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        num_labels=10,
        num_queries=5,
        **sizes,
        **heads,
    )
    loss = DetrForObjectDetection(config)(pixel_values=images, labels=detection_labels(scenes)).loss
    assert torch.isfinite(loss)
    backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
    config = MaskFormerConfig(
        backbone_config=backbone, decoder_config=config, fpn_feature_size=32, mask_feature_size=32, num_labels=10
    )
    loss = MaskFormerForInstanceSegmentation(config)(pixel_values=images, **segmentation_labels(scenes)).loss
    assert torch.isfinite(loss)


def test_distinct_captions():
    found = with_distinct_captions(Scenes(64, (1, 2), part="held_out"), 100)
    assert len({describe(scene) for scene in found}) == 100
    with pytest.raises(ValueError, match="have only 10 captions: allow more digits, colours or sizes"):
        with_distinct_captions(Scenes(32, 1, colours=["red"], sizes=[("small", 10, 12)]), 11)


@pytest.mark.parametrize("options", [{"rank": 2, "world_size": 2}, {"rank": -1}, {"world_size": 9}])
def test_processes_that_do_not_fit(options):
    with pytest.raises(ValueError, match="expected 0 <= rank < world_size <= batch_size"):
        SceneBatches(Scenes(), 8, captioned, **options)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size=0, expected 1 or more"):
        SceneBatches(Scenes(), 0, captioned)
