import pytest
import torch
import transformers
from ds_core import ShapeError
from ds_core.activations.softmax import softmax
from ds_zoo.finetuning import add_lora
from ds_zoo.minivit.rollout import attention_maps, rollout, rollout_maps
from vit_twins import SMALL, config_of, images_of, ours_of, small_classifier, theirs_of


def test_worked_example():
    first = torch.tensor([[0.6, 0.4], [0.2, 0.8]]).view(1, 1, 2, 2)
    second = torch.tensor([[0.5, 0.5], [0, 1]]).view(1, 1, 2, 2)
    torch.testing.assert_close(rollout([first]), torch.tensor([[[0.8, 0.2], [0.1, 0.9]]]))
    torch.testing.assert_close(rollout([second]), torch.tensor([[[0.75, 0.25], [0, 1]]]))
    torch.testing.assert_close(rollout([first, second]), torch.tensor([[[0.625, 0.375], [0.1, 0.9]]]))


@pytest.mark.parametrize("name", ["no-qkv-bias", "seven-layers", "tiled"])
def test_the_maps_are_transformers(name):
    """Whose eager attention returns them, from a softmax in float32."""
    config = config_of(name)
    theirs = theirs_of("ViTForImageClassification", config)
    theirs.config._attn_implementation = "eager"
    x = images_of(config)
    expected = theirs(x, output_attentions=True).attentions
    found = attention_maps(ours_of(theirs), x)
    assert len(found) == len(expected) == config.num_hidden_layers
    for ours, maps in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, maps.double(), rtol=0, atol=1e-6)


def test_the_maps_of_an_image_of_another_size():
    maps = attention_maps(
        small_classifier(), images_of(transformers.ViTConfig(num_channels=2), 2, (10, 6)), interpolate_pos_encoding=True
    )
    assert [tuple(layer.shape) for layer in maps] == [(2, 2, 7, 7)] * 2
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(2, 2, 7, dtype=torch.float64))


def test_with_lora_the_maps_are_those_of_the_folded_weights():
    x = torch.randn(2, 2, 7, 7, dtype=torch.float64)
    model = small_classifier()
    before = attention_maps(model, x)[0]
    add_lora(model, 2, 4.0)
    for block in model.vit.blocks:
        block.attention.lora_b.data.normal_(0, 0.5)
    after = attention_maps(model, x)[0]
    assert not torch.allclose(after, before, atol=1e-3)
    attention, seen = model.vit.blocks[0].attention, model.vit.blocks[0].norm1(model.vit.tokens(x))
    folded = attention.in_proj_weight + attention.scale * attention.lora_b @ attention.lora_a
    query, key, _ = (seen @ folded.T + attention.in_proj_bias).chunk(3, -1)
    query, key = (part.view(2, 5, 2, 4).transpose(1, 2) for part in (query, key))
    torch.testing.assert_close(after, softmax(query @ key.mT / 2, -1))


@pytest.mark.parametrize("pooling", ["token", "mean"])
def test_rollout_maps(pooling):
    model = small_classifier(None, pooling)
    x = torch.randn(3, 2, 7, 7, dtype=torch.float64)
    found = rollout_maps(model, x)
    mixed = rollout(attention_maps(model, x))
    torch.testing.assert_close(mixed.sum(-1), torch.ones(3, 5, dtype=torch.float64))
    read = mixed[:, 0, 1:] if pooling == "token" else mixed[:, 1:, 1:].mean(1)
    torch.testing.assert_close(found.flatten(1), read / read.max(1, keepdim=True).values)
    assert found.shape == (3, 2, 2)


def test_nothing_is_changed_by_looking():
    model = small_classifier()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rollout_maps(model, torch.randn(1, 2, 7, 7, dtype=torch.float64))
    assert model.training
    assert model.vit.blocks[0].norm1.forward.__self__ is model.vit.blocks[0].norm1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ShapeError, match="expected 7 x 7"):
        rollout_maps(model, torch.randn(1, SMALL.num_channels, 9, 7, dtype=torch.float64))
