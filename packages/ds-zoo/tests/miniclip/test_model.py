"""A MiniCLIP before any training, and what it refuses."""

import copy

import pytest
import torch
from clip_cases import small_config, small_inputs, small_model
from ds_core import AdamW, ShapeError, no_record, record, whole_step
from ds_core.testing import one_graph
from ds_zoo import ContrastiveLoss, MiniCLIP, MiniCLIPConfig, TextConfig, VisionConfig

WIDE = MiniCLIPConfig(
    TextConfig(64, 3, 4, 256, vocab_size=400, max_length=50),
    VisionConfig(80, 2, 4, 300, image_size=96, patch_size=8),
    projection_dim=48,
)


def test_initial_weights_are_transformers():
    """Of the same deviations, tensor by tensor."""
    import transformers
    from ds_zoo.miniclip.config import to_hugging_face
    from ds_zoo.miniclip.pretrained import keys_of

    torch.manual_seed(0)
    theirs = transformers.CLIPModel(transformers.CLIPConfig(**to_hugging_face(WIDE))).state_dict()
    ours = MiniCLIP(WIDE, generator=torch.Generator().manual_seed(0)).state_dict()
    for name, key in keys_of(ours).items():
        parts = torch.cat([theirs[each].flatten() for each in key.names])
        if parts.numel() == 1:
            assert float(ours[name]) == pytest.approx(float(parts), abs=1e-6)
        elif float(parts.std()) == 0:
            assert torch.equal(ours[name].flatten(), parts), name
        else:
            assert float(ours[name].std()) == pytest.approx(float(parts.std()), rel=0.25), name


def test_the_same_generator_gives_the_same_model_and_leaves_the_global_one_alone():
    state = torch.get_rng_state()
    first, second = (MiniCLIP(small_config(), generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for ours, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, other)


def test_features_are_the_embeddings_and_leave_no_trace():
    model = small_model()
    inputs = small_inputs(model.config, texts=2, images=4, mask="right")
    with no_record():
        out = model(**inputs)
    with record() as trace:
        images = model.image_features(inputs["pixel_values"])
        texts = model.text_features(inputs["input_ids"], inputs["attention_mask"])
        assert len(trace) == 0
    assert torch.equal(images, out.image_embeds)
    assert torch.equal(texts, out.text_embeds)
    assert out.logits_per_image.shape == (4, 2)
    larger = small_inputs(model.config, size=(20, 16))["pixel_values"]
    assert model.image_features(larger, interpolate_pos_encoding=True).shape == (3, 6)


def test_what_follows_the_end_token_changes_nothing():
    model = small_model()
    inputs = small_inputs(model.config)
    changed = inputs["input_ids"].clone()
    changed[2, 5:] = 4  # its end token stands at 4
    assert changed[2, 4] == 14
    assert torch.equal(model.text_features(inputs["input_ids"]), model.text_features(changed))


def test_attention_is_tiled_for_long_sequences():
    model = MiniCLIP(WIDE, device="meta")
    assert model.vision.blocks[0].attention.implementation == "tiled"  # 145 tokens
    assert model.text.blocks[0].attention.implementation == "vectorized"
    assert MiniCLIP(WIDE, implementation="loops", device="meta").text.blocks[0].attention.implementation == "loops"


def test_dropout_of_attention_is_felt_in_training_alone():
    config = small_config({"attention_dropout": 0.5}, {"attention_dropout": 0.5})
    model = small_model(config)
    inputs = small_inputs(config)
    first, second = model(**inputs), model(**inputs)
    assert not torch.equal(first.text_embeds, second.text_embeds)
    assert not torch.equal(first.image_embeds, second.image_embeds)
    model.eval()
    assert torch.equal(model(**inputs).logits_per_text, model(**inputs).logits_per_text)


def test_a_whole_step_is_one_graph_and_the_same_step():
    model = small_model(small_config({"num_layers": 1}, {"num_layers": 1}))
    twin = copy.deepcopy(model)

    def step_of(own):
        # a number, which stays: for a tensor of no dimensions the compiler traces twice, as test_compile_step.py has it
        optimizer = AdamW(own.parameters(), lr=1e-3)
        optimizer.prepare_compile()
        return whole_step(own, ContrastiveLoss(), optimizer)

    compiled, eager = one_graph(step_of(model)), step_of(twin)
    for seed in range(2):
        inputs = small_inputs(model.config, seed=seed)
        batch = ((inputs["input_ids"], inputs["pixel_values"]), torch.tensor([0, 1, seed]))
        torch.testing.assert_close(compiled([batch])[0], eager([batch])[0], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": torch.zeros(3, dtype=torch.int64)}, r"input_ids of shape \(3,\), expected \(N, T\) of 1 to 7"),
        ({"input_ids": torch.zeros(3, 8, dtype=torch.int64)}, r"\(3, 8\), expected \(N, T\) of 1 to 7 tokens"),
        ({"input_ids": torch.zeros(3, 0, dtype=torch.int64)}, r"of 1 to 7 tokens"),
        ({"attention_mask": torch.ones(3, 6)}, r"attention_mask \(3, 6\) for input_ids \(3, 7\)"),
        ({"pixel_values": torch.zeros(3, 3, 12, 13, dtype=torch.float64)}, "interpolate_pos_encoding=True"),
        ({"pixel_values": torch.zeros(3, 1, 12, 12, dtype=torch.float64)}, r"expected \(B, 3, height, width\)"),
        ({"pixel_values": torch.zeros(3, 3, 12, 12)}, "the weights are in torch.float64"),
    ],
)
def test_bad_input(change, message):
    model = small_model()
    with pytest.raises(ShapeError, match=message):
        model(**{**small_inputs(model.config), **change})


def test_a_token_that_is_not_in_the_vocabulary():
    model = small_model()
    with pytest.raises(IndexError, match=r"given the index 15, expected 0 ... 14"):
        model(torch.full((3, 4), 15), small_inputs(model.config)["pixel_values"])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TextConfig(num_heads=5), ValueError, "TextConfig: 5 heads do not divide an embed_dim of 512"),
        (lambda: TextConfig(max_length=0), ValueError, "max_length=0, expected 1 or more"),
        (lambda: TextConfig(vocab_size=2.0), TypeError, "vocab_size=2.0, expected a whole number"),
        (lambda: TextConfig(end_token=[1, 2]), TypeError, r"end_token=\[1, 2\], expected a whole number"),
        (lambda: TextConfig(epsilon=0.0), ValueError, "epsilon=0.0, expected a positive number"),
        (lambda: VisionConfig(attention_dropout=1.0), ValueError, "attention_dropout=1, expected less"),
        (lambda: VisionConfig(image_size=16, patch_size=32), ValueError, "no patch of 32 fits into an image of 16"),
        (lambda: VisionConfig(image_size=(16, 16)), TypeError, r"image_size=\(16, 16\), expected a whole number"),
        (lambda: MiniCLIPConfig(projection_dim=0), ValueError, "projection_dim=0"),
        (lambda: MiniCLIPConfig(logit_scale="1"), TypeError, "logit_scale"),
        (lambda: MiniCLIPConfig(text=VisionConfig()), TypeError, "given a VisionConfig as text, expected a TextConfig"),
    ],
)
def test_impossible_sizes(make, error, message):
    with pytest.raises(error, match=message):
        make()
