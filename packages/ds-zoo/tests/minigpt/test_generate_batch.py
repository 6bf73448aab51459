"""Several texts at a time, each of which is what it is alone."""

import pytest
import torch
from ds_core import no_record, record
from ds_zoo import MiniGPT, MiniGPTConfig, generate, generate_batch


def wild_model(block_size=8, **options):
    """Weights large enough that each token depends on those before."""
    model = MiniGPT(MiniGPTConfig(13, block_size, 2, 2, 8, **options), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) * 0.5)
    return model


PROMPTS = [torch.tensor(text) for text in ([1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [12, 0], list(range(13)), [4])]


def alone(model, seeds, **options):
    return [list(generate(model, prompt, seed=seed, **options)) for prompt, seed in zip(PROMPTS, seeds, strict=True)]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("block_size", [1, 2, 4, 7, 8, 64])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_text_is_what_it_is_alone(temperature, block_size, use_cache):
    model, seeds = wild_model(block_size), range(10, 16)
    options = {"count": 30, "temperature": temperature, "use_cache": use_cache}
    found = generate_batch(model, PROMPTS, seeds=seeds, **options)
    assert found == alone(model, seeds, **options)
    assert [len(text) for text in found] == [30] * 6
    if temperature == 1.0:  # the likeliest token of such a model is soon always the same
        assert len({tuple(text) for text in found}) == 6


@pytest.mark.parametrize("block_size", [4, 8, 64])
@pytest.mark.parametrize("stop_token", range(0, 13, 3))
def test_texts_end_before_the_stop_token(stop_token, block_size):
    model, seeds = wild_model(block_size), range(6)
    options = {"count": 25, "temperature": 1.3, "stop_token": stop_token}
    found = generate_batch(model, PROMPTS, seeds=seeds, **options)
    assert found == alone(model, seeds, **options)
    assert any(len(text) < 25 for text in found)
    endless = generate_batch(model, PROMPTS, 25, temperature=1.3, seeds=seeds)
    for text, whole in zip(found, endless, strict=True):
        assert whole[: len(text)] == text
        assert len(text) == 25 or whole[len(text)] == stop_token


def test_greedy_equals_the_whole_forward():
    model = wild_model(16).eval()
    found = generate_batch(model, PROMPTS[:3], 5, temperature=0)
    for prompt, text in zip(PROMPTS, found, strict=False):
        tokens = prompt.tolist()
        for token in text:
            with no_record():
                assert token == int(model(torch.tensor([tokens]))[0, -1].argmax())
            tokens.append(token)


def test_one_column_at_a_time():
    model, seen = wild_model(8), []
    inner = model.next_logits
    model.next_logits = lambda tokens, cache, **o: seen.append(tuple(tokens.shape)) or inner(tokens, cache, **o)
    generate_batch(model, [torch.arange(6), torch.arange(3)], 6, temperature=0)
    assert seen == [(2, 6), (2, 1), (2, 1), (2, 6), (2, 1), (2, 1)]


def test_nothing_outside_is_touched():
    model = wild_model(dropout=0.5).train()
    state = torch.get_rng_state()
    with record() as trace:
        first = generate_batch(model, PROMPTS, 9, seeds=range(6))
        assert len(trace) == 0
    assert model.training
    assert first == generate_batch(model, PROMPTS, 9, seeds=range(6))
    assert first != generate_batch(model, PROMPTS, 9, seeds=range(1, 7))
    assert torch.equal(torch.get_rng_state(), state)


def test_no_prompt_and_no_token():
    assert generate_batch(wild_model(), [], 5) == []
    together = torch.tensor([[1, 2], [3, 4]])
    assert generate_batch(wild_model(), together, 3, temperature=0.0) == generate_batch(
        wild_model(), list(together), 3, temperature=0.0
    )
    assert generate_batch(wild_model(), PROMPTS[:2], 0) == [[], []]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": [torch.tensor([1]), torch.tensor([], dtype=torch.int64)]}, "at least 1 token"),
        ({"prompts": [torch.tensor([1]), torch.tensor([13])]}, "outside 0 to 12"),
        ({"count": -1}, "given count=-1"),
        ({"temperature": -0.1}, "generate_batch: temperature is -0.1"),
        ({"seeds": [1]}, "given 1 seeds for 6 prompts"),
        ({"block_size": 9}, "block_size is 9, but the model was trained on blocks of 8"),
    ],
)
def test_arguments_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        generate_batch(**{"model": wild_model(), "prompts": PROMPTS, "count": 1, **change})
