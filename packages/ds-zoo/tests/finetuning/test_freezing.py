"""Freezing by names."""

import pytest
from ds_zoo.finetuning import freeze
from ds_zoo.finetuning.names import ends_with, listed, starts_with
from tiny_model import loss_of, tiny_model, trained_names


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        ([], lambda name: False),
        (["tokens"], lambda name: name == "tokens.weight"),
        (["tokens", "positions", "blocks.0"], lambda name: name.startswith(("tokens", "positions", "blocks.0."))),
        (["blocks.[0-3]"], lambda name: name.startswith("blocks")),
        (["blocks.*.attention"], lambda name: ".attention." in name),
        (["*.bias"], lambda name: name.endswith("bias") and "in_proj" not in name),
        (["blocks.1.norm2.weight"], lambda name: name == "blocks.1.norm2.weight"),
    ],
)
def test_what_the_patterns_name_is_not_trained(patterns, frozen):
    model = tiny_model()
    names = trained_names(model)
    freeze(model, patterns)
    assert trained_names(model) == [name for name in names if not frozen(name)]
    loss_of(model)
    assert all((tensor.grad is None) == frozen(name) for name, tensor in model.named_parameters())


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["head"], r"freeze: 'head' fits no parameter: there are tokens, positions, blocks\.\*\.norm1, "),
        (["block"], "'block' fits no parameter"),
        (["attention"], "'attention' fits no parameter"),
        (["*"], r"freeze: \* leave no parameter to train"),
    ],
)
def test_what_cannot_be_frozen(patterns, message):
    model = tiny_model()
    with pytest.raises(ValueError, match=message):
        freeze(model, patterns)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_one_text_is_no_sequence():
    with pytest.raises(TypeError, match="given the text 'tokens', expected a sequence of names"):
        freeze(tiny_model(), "tokens")


def test_names_that_fit():
    assert starts_with("blocks.0.norm1.weight", "blocks.0")
    assert not starts_with("blocks.10.norm1.weight", "blocks.1")
    assert not starts_with("vision.blocks.0.norm1.weight", "blocks.0")
    assert ends_with("blocks.0.attention", "attention")
    assert not ends_with("blocks.0.self_attention", "attention")
    assert not ends_with("blocks.0.attention.out_proj", "attention")


def test_a_list_of_names_is_short():
    assert listed([]) == "none"
    assert listed(["blocks.0.a", "blocks.1.a", "b"]) == "blocks.*.a, b"
    assert listed(chr(ord("a") + index) for index in range(15)) == "a, b, c, d, e, f, g, h, i, j, k, l and 3 more"
