"""LoRA in a whole model: what trains, what is saved, and that the folded model computes the same."""

import pytest
import torch
from ds_core import AdamW, Linear, Sequential, load_weights, no_record, plain, save_checkpoint
from ds_core.testing import report
from ds_transformers import SelfAttention
from ds_zoo import MiniGPT, TokenCrossEntropy
from ds_zoo.finetuning import LoRALinear, LoRASelfAttention, add_lora, folded_state, has_lora
from tiny_model import TARGETS, TOKENS, loss_of, tiny_model, trained_names


def with_lora(*targets, values=True, **options):
    model = tiny_model()
    add_lora(model, 2, 3.0, targets, generator=torch.Generator().manual_seed(1), **options)
    for name, tensor in model.named_parameters():
        if values and name.endswith("lora_b"):
            with torch.no_grad():
                tensor.normal_(generator=torch.Generator().manual_seed(len(name)))
    return model


CASES = {
    ("attention",): ["blocks.0.attention", "blocks.1.attention"],
    ("attention.out_proj", "blocks.1.attention"): [
        "blocks.0.attention.out_proj",
        "blocks.1.attention",
        "blocks.1.attention.out_proj",
    ],
    ("feed_forward.linear1",): ["blocks.0.feed_forward.linear1", "blocks.1.feed_forward.linear1"],
    ("blocks.[1-9].*linear?",): ["blocks.1.feed_forward.linear1", "blocks.1.feed_forward.linear2"],
    ("attention", "attention"): ["blocks.0.attention", "blocks.1.attention"],
}


@pytest.mark.parametrize("targets", CASES)
def test_only_updates_train(targets):
    model = with_lora(*targets)
    expected = [f"{layer}.{part}" for layer in CASES[targets] for part in ("lora_a", "lora_b")]
    assert sorted(trained_names(model)) == sorted(expected)
    loss_of(model)
    assert sorted(name for name, tensor in model.named_parameters() if tensor.grad is not None) == sorted(expected)
    assert has_lora(model)


def test_the_model_begins_as_it_was():
    model, before = with_lora("attention", "linear1", "linear2", "out_proj", values=False), tiny_model()
    with no_record():
        torch.testing.assert_close(model(TOKENS), before(TOKENS), rtol=1e-13, atol=1e-13)
    assert folded_state(model).keys() == before.state_dict().keys()
    for name, tensor in before.state_dict().items():
        assert torch.equal(folded_state(model)[name], tensor), name


@pytest.mark.parametrize("targets", [("attention",), ("linear1",), ("attention", "out_proj", "linear1", "linear2")])
def test_the_folded_model_computes_the_same(targets):
    model, folded = with_lora(*targets), tiny_model()
    state = model.state_dict()
    with no_record():
        before = folded(TOKENS)
        folded.load_state_dict(folded_state(model))
        found = folded(TOKENS)
        torch.testing.assert_close(found, model(TOKENS), rtol=1e-12, atol=1e-12)
    assert (found - before).abs().max() > 0.1
    for name, tensor in state.items():  # the model itself stays as it is
        assert torch.equal(model.state_dict()[name], tensor)


def test_folded_state_without_lora_is_the_state():
    model = tiny_model()
    assert not has_lora(model)
    found, state = folded_state(model), model.state_dict()
    assert all(found[name] is not None and torch.equal(found[name], state[name]) for name in state)
    assert found.keys() == state.keys()


def test_folds_half_precision_without_rounding_on_the_way():
    layer = Sequential(Linear(6, 4, dtype=torch.bfloat16))
    add_lora(layer, 2, 3.0, ["0"])
    with torch.no_grad():
        layer[0].lora_b.normal_()
    a, b = layer[0].lora_a.float(), layer[0].lora_b.float()
    expected = (layer[0].weight.float() + 1.5 * b @ a).to(torch.bfloat16)
    assert torch.equal(folded_state(layer)["0.weight"], expected)


def test_every_gradient_handwritten_and_by_autograd():
    model = with_lora("attention", "linear1")
    assert report(model, TOKENS, TokenCrossEntropy(), TARGETS).ok
    with plain():
        plainly = loss_of(model), {name: tensor.grad.clone() for name, tensor in trained(model)}
    model.zero_grad()
    loss = loss_of(model)
    assert loss == pytest.approx(plainly[0], rel=1e-12)
    for name, tensor in trained(model):
        torch.testing.assert_close(tensor.grad, plainly[1][name], rtol=1e-10, atol=1e-12)


def trained(model):
    return [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]


def test_gradients_are_those_of_the_folded_weight():
    """dA = s B^T dW and dB = s dW A^T, with dW of an ordinary model that holds the folded weights."""
    model, folded = with_lora("attention", "linear2"), tiny_model()
    folded.load_state_dict(folded_state(model))
    loss_of(model)
    loss_of(folded)
    weights = dict(folded.named_parameters())
    for path, kind in [("blocks.0.attention", "in_proj_weight"), ("blocks.1.feed_forward.linear2", "weight")]:
        layer = dict(model.named_modules())[path]
        dweight = weights[f"{path}.{kind}"].grad
        torch.testing.assert_close(layer.lora_a.grad, 1.5 * layer.lora_b.t() @ dweight, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(layer.lora_b.grad, 1.5 * dweight @ layer.lora_a.t(), rtol=1e-10, atol=1e-13)


def test_training_lowers_the_loss_and_leaves_the_weights():
    model = with_lora("attention", "linear1", values=False)
    frozen = {name: tensor.clone() for name, tensor in model.state_dict().items() if "lora" not in name}
    optimizer = AdamW([tensor for _, tensor in trained(model)], lr=0.05)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        losses.append(loss_of(model))
        optimizer.step()
    assert losses[-1] < losses[0] / 2
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in frozen.items())


def test_new_parts_train_whole():
    model = with_lora("attention", trained=["norm", "*.norm2"])
    others = [name for name in trained_names(model) if "lora" not in name]
    norms = ["blocks.0.norm2", "blocks.1.norm2", "norm"]
    assert others == [f"{norm}.{kind}" for norm in norms for kind in ("weight", "bias")]


def test_a_checkpoint_holds_the_updates(tmp_path):
    model = with_lora("attention")
    optimizer = AdamW([tensor for _, tensor in trained(model)], lr=0.1)
    save_checkpoint(tmp_path / "a.safetensors", model=model, optimizer=optimizer, step=1)
    other = with_lora("attention", values=False)
    assert not torch.equal(other.blocks[0].attention.lora_b, model.blocks[0].attention.lora_b)
    load_weights(tmp_path / "a.safetensors", other)
    state = other.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_layer_in_two_places_gets_one_update():
    shared = Linear(4, 4, dtype=torch.float64)
    model = Sequential({"first": shared, "second": shared})
    add_lora(model, 1, 1.0, ["second"])
    assert model.first is model.second
    assert type(model.first) is LoRALinear
    with torch.no_grad():
        model.first.lora_b.normal_()
    folded = folded_state(model)
    assert sorted(folded) == ["first.bias", "first.weight", "second.bias", "second.weight"]
    assert torch.equal(folded["first.weight"], folded["second.weight"])


def test_draws_from_the_generator_or_the_default_one():
    def drawn(seed):
        model = tiny_model()
        add_lora(model, 2, 1.0, generator=seed and torch.Generator().manual_seed(seed))
        return model.blocks[1].attention.lora_a

    state = torch.get_rng_state()
    assert torch.equal(drawn(3), drawn(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    first = drawn(None)
    torch.manual_seed(5)
    assert torch.equal(first, drawn(None))
    assert not torch.equal(first, drawn(None))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": ["attn"]}, r"'attn' fits no layer: there are blocks\.\*\.attention, blocks\.\*\.attention.out_p"),
        ({"targets": ["feed_forward"]}, "'feed_forward' fits no layer"),
        ({"targets": ["attention", "tokens"]}, "'tokens' fits no layer"),
        ({"targets": []}, "given no target"),
        ({"rank": 0}, "rank=0"),
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"trained": ["head"]}, r"'head' fits no parameter: there are tokens, positions, blocks\.\*\.norm1"),
    ],
)
def test_what_does_not_fit_changes_nothing(arguments, message):
    model = tiny_model()
    names = trained_names(model)
    with pytest.raises(ValueError, match=message):
        add_lora(model, **{"rank": 2, "alpha": 1.0, "targets": ["attention"], **arguments})
    assert trained_names(model) == names
    assert not has_lora(model)


def test_one_update_is_enough():
    model = with_lora("attention")
    with pytest.raises(ValueError, match=r"blocks.0.attention has an update already"):
        add_lora(model, 2, 1.0, ["attention"])
    add_lora(model, 2, 1.0, ["out_proj"])  # another layer is welcome; the first updates are frozen then
    assert all("out_proj" in name for name in trained_names(model))
    assert type(model.blocks[0].attention) is LoRASelfAttention


def test_one_text_is_no_sequence():
    with pytest.raises(TypeError, match="given the text 'attention', expected a sequence of names"):
        add_lora(tiny_model(), 2, 1.0, "attention")


def test_layers_of_other_classes_are_left_alone():
    class Mine(SelfAttention):
        pass

    model = Sequential(Mine(4, 2))
    with pytest.raises(ValueError, match=r"'0' fits no layer: there are \*.out_proj"):
        add_lora(model, 1, 1.0, ["0"])


def test_saved_folder_is_an_ordinary_gpt2(tmp_path):
    model = with_lora("attention", "linear1")
    model.save_pretrained(tmp_path)
    found = MiniGPT.from_pretrained(tmp_path)
    assert not has_lora(found)
    with no_record():
        torch.testing.assert_close(found(TOKENS), model(TOKENS), rtol=1e-12, atol=1e-12)
