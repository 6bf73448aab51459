"""MiniCLIP against transformers' CLIPModel: outputs, loss, every gradient, files both ways, steps of training."""

import copy

import pytest
import safetensors.torch
import torch
import transformers
from clip_cases import FIELDS, random_gradients, small_config, small_inputs, small_model, step, twin_of
from ds_core import AdamW, no_record, plain, primitives_only, record
from ds_core.testing import report
from ds_zoo import MiniCLIP
from ds_zoo.miniclip import MiniCLIPOutput

# By name: the changes of the towers, of the rest of the config, of the inputs, and the implementation of attention
CASES = {
    "the first end token counts": ({}, {}, {}, {}, None),
    "the largest token counts": ({"end_token": 2, "num_layers": 1}, {"num_layers": 3}, {}, {}, None),
    "padding on the right": ({"embed_dim": 15, "num_heads": 5, "hidden_dim": 7}, {}, {}, {"mask": "right"}, "tiled"),
    "padding on the left": ({"max_length": 9}, {"embed_dim": 6, "num_heads": 1}, {}, {"mask": "left"}, None),
    "holes in the mask": ({"epsilon": 1e-3}, {"epsilon": 1e-2}, {"projection_dim": 3}, {"mask": "holes"}, "loops"),
    "images of another size": ({}, {"num_channels": 1}, {}, {"size": (16, 11)}, None),
    "patches that leave a rest": ({}, {"image_size": 13, "patch_size": 5}, {"logit_scale": 0.5}, {}, "tiled"),
    "one pair": ({}, {}, {}, {"texts": 1, "images": 1, "tokens": 1}, None),
    "end tokens that are padding": ({"pad_token": 14}, {}, {}, {"mask": "left", "tokens": 5}, None),
}
UNEQUAL = {
    "more texts": {"texts": 4, "images": 2},
    "more images": {"texts": 1, "images": 3, "mask": "right"},
}


def make(case):
    text, vision, options, inputs, implementation = CASES[case]
    config = small_config(text, vision, **options)
    model = small_model(config, implementation=implementation)
    made = small_inputs(config, **inputs)
    if case == "end tokens that are padding":
        made["input_ids"][:, 0] = 14
    return model, made


def gradients_by_file(model, folder):
    """Each parameter's gradient in the place of the parameter, written as a file: so by the names of the file."""
    turned = copy.deepcopy(model)
    with torch.no_grad():
        for tensor, original in zip(turned.parameters(), model.parameters(), strict=True):
            tensor.copy_(torch.zeros_like(tensor) if original.grad is None else original.grad)
    turned.save_pretrained(folder)
    return safetensors.torch.load_file(folder / "model.safetensors")


def assert_gradients_agree(ours, theirs, folder):
    found, expected = gradients_by_file(ours, folder / "ours"), gradients_by_file(theirs, folder / "theirs")
    assert found.keys() == expected.keys()
    largest = max(float(tensor.abs().max()) for tensor in expected.values())
    for name, tensor in expected.items():
        allowed = 1e-8 * max(float(tensor.abs().max()), 1e-5 * largest)
        difference = float((found[name] - tensor).abs().max())
        assert difference <= allowed, f"{name}: {difference} of {float(tensor.abs().max())}"


@pytest.mark.parametrize("case", CASES)
def test_outputs_loss_and_every_gradient_under_it(case, tmp_path):
    model, inputs = make(case)
    twin = twin_of(model, tmp_path / "model")
    loss = step(model, inputs)
    expected = twin(**inputs, return_loss=True)
    expected.loss.backward()
    torch.testing.assert_close(loss, expected.loss.detach(), rtol=1e-10, atol=1e-10)
    with no_record():
        out = model(**inputs)
    for name in FIELDS:
        torch.testing.assert_close(getattr(out, name), getattr(expected, name).detach(), rtol=1e-10, atol=1e-10)
    assert_gradients_agree(model, twin, tmp_path)


@pytest.mark.parametrize("fields", [*[(name,) for name in FIELDS], FIELDS, ()])
@pytest.mark.parametrize("case", [*CASES, *UNEQUAL])
def test_every_gradient_under_random_gradients_of_the_outputs(case, fields, tmp_path):
    if case in UNEQUAL:
        model = small_model()
        inputs = small_inputs(model.config, **UNEQUAL[case])
    else:
        model, inputs = make(case)
    twin = twin_of(model, tmp_path / "model")
    pixels = inputs["pixel_values"].clone().requires_grad_()
    expected = twin(**{**inputs, "pixel_values": pixels})
    gradients = random_gradients(expected, fields)
    with record():
        model(**inputs)
        dpixels = model.backward(gradients if fields else None)
    if not fields:
        assert dpixels is None
        assert all(tensor.grad is None for tensor in model.parameters())
        return
    torch.autograd.backward([getattr(expected, name) for name in fields], [getattr(gradients, n) for n in fields])
    if fields != ("text_embeds",):
        torch.testing.assert_close(dpixels, pixels.grad, rtol=1e-8, atol=1e-10)
    assert_gradients_agree(model, twin, tmp_path)


def test_round_trips_and_ten_steps_along_transformers(tmp_path):
    torch.manual_seed(0)
    start = small_model()
    twin = twin_of(start, tmp_path / "start").train()
    twin.save_pretrained(tmp_path / "theirs")
    model = MiniCLIP.from_pretrained(tmp_path / "theirs")
    assert model.config == start.config
    for name, tensor in start.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    settings = {"lr": 3e-3, "weight_decay": 0.1}
    ours, theirs = AdamW(model.parameters(), **settings), torch.optim.AdamW(twin.parameters(), **settings)
    for number in range(10):
        inputs = small_inputs(model.config, texts=5, images=5, mask="right", seed=number)
        loss = step(model, inputs)
        ours.step()
        expected = twin(**inputs, return_loss=True).loss
        theirs.zero_grad()
        expected.backward()
        theirs.step()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-9, atol=1e-9)
    model.save_pretrained(tmp_path / "after")
    twin.save_pretrained(tmp_path / "theirs_after")
    found, wanted = (safetensors.torch.load_file(tmp_path / f / "model.safetensors") for f in ("after", "theirs_after"))
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if not name.endswith("k_proj.bias"):  # its gradient is rounding alone, of which Adam makes a step
            torch.testing.assert_close(found[name], tensor, rtol=1e-8, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
    again, info = transformers.CLIPModel.from_pretrained(
        tmp_path / "after", dtype=torch.float64, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(again.eval()(**inputs, return_loss=True).loss.detach(), step(model, inputs))


@pytest.mark.parametrize("case", ["the first end token counts", "padding on the right", "images of another size"])
def test_handwritten_equals_autograd_for_every_parameter(case):
    model, inputs = make(case)
    names = ("input_ids", "pixel_values", "attention_mask", "interpolate_pos_encoding")
    batch = tuple(inputs.get(name) for name in names[: 3 + ("size" in CASES[case][3])])
    found = report(model, batch, finite_difference=False)
    assert found.ok, str(found)
    assert len(found.rows) == len(list(model.parameters())) + 1  # and the pixels
    found = report(model, batch, model.criterion(), samples=1)
    assert found.ok, str(found)


def test_a_whole_step_runs_primitives_only():
    model, inputs = make("padding on the right")
    groups = torch.tensor([0, 1, 0])
    optimizer = AdamW(model.parameters())
    with primitives_only():
        step(model, inputs, groups)
        optimizer.step()


@pytest.mark.parametrize("case", ["the largest token counts", "padding on the left", "images of another size"])
def test_plain_pairs_give_the_same(case):
    model, inputs = make(case)
    loss = step(model, inputs)
    gradients = [tensor.grad.clone() for tensor in model.parameters()]
    with plain():
        torch.testing.assert_close(step(model, inputs), loss, rtol=1e-12, atol=1e-12)
    for tensor, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(tensor.grad, gradient, rtol=1e-9, atol=1e-12)


def test_one_batch_is_learned_by_heart():
    model = small_model(dtype=torch.float32)
    inputs = small_inputs(model.config, texts=6, images=6)
    inputs["pixel_values"] = inputs["pixel_values"].float()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(150):
        loss = step(model, inputs)
        optimizer.step()
    assert float(loss) < 0.01


def test_without_the_gradient_of_the_pixels_the_others_are_the_same():
    model, inputs = make("the first end token counts")
    step(model, inputs)
    expected = [tensor.grad.clone() for tensor in model.parameters()]
    model.zero_grad()
    criterion = model.criterion()
    with record():
        criterion(model(**inputs))
        assert model.backward(criterion.backward(), input_gradient=False) is None
    for tensor, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.equal(tensor.grad, gradient)


def test_a_frozen_tower_gets_no_gradient_and_the_other_keeps_its_own():
    model, inputs = make("the first end token counts")
    step(model, inputs)
    expected = [tensor.grad.clone() for tensor in model.text.parameters()]
    model.vision.requires_grad_(False)
    step(model, inputs)
    assert all(tensor.grad is None for tensor in model.vision.parameters())
    for tensor, gradient in zip(model.text.parameters(), expected, strict=True):
        assert torch.equal(tensor.grad, gradient)


def test_an_empty_dataclass_of_gradients_is_none():
    model, inputs = make("the first end token counts")
    with record():
        model(**inputs)
        assert model.backward(MiniCLIPOutput()) is None
    assert all(tensor.grad is None for tensor in model.parameters())
