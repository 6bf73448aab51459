import pytest
import torch
from ds_core import record
from ds_zoo import MiniGPT, MiniGPTConfig, generate


def wild_model(block_size=8, **options):
    """Weights large enough that each token depends on those before."""
    model = MiniGPT(MiniGPTConfig(13, block_size, 2, 2, 8, **options), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) * 0.5)
    return model


PROMPT = torch.tensor([1, 2, 3])


@pytest.mark.parametrize("block_size", [1, 2, 3, 4, 7, 8, 64])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_with_cache_equals_without(block_size, temperature):
    model = wild_model(block_size)
    texts = [
        list(generate(model, PROMPT, 40, temperature=temperature, seed=0, use_cache=use_cache))
        for use_cache in (True, False)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 40


def test_greedy_equals_the_whole_forward():
    model = wild_model(16).eval()
    tokens = PROMPT.tolist()
    for token in generate(model, PROMPT, 10, temperature=0):
        with torch.no_grad():
            logits = model(torch.tensor([tokens]))
        assert token == int(logits[0, -1].argmax())
        tokens.append(token)


def test_window_forgets_its_oldest_quarter():
    model = wild_model(8)
    seen = []
    inner = model.next_logits
    model.next_logits = lambda tokens, cache: seen.append(tokens.shape[1]) or inner(tokens, cache)
    list(generate(model, torch.arange(7), 6, seed=0))
    assert seen == [7, 1, 6, 1, 1, 6]


def test_smaller_window_sees_less():
    model = wild_model(8)
    wide, narrow = (list(generate(model, PROMPT, 20, seed=0, block_size=size)) for size in (8, 2))
    assert wide != narrow
    assert narrow == list(generate(model, PROMPT[-2:], 20, seed=0, block_size=2))
    assert wide != list(generate(model, PROMPT[-2:], 20, seed=0))


def test_seed_decides_and_nothing_outside_is_touched():
    model = wild_model(dropout=0.5).train()
    model.blocks[0].eval()
    state = torch.get_rng_state()
    first = list(generate(model, PROMPT, 30, seed=1))
    assert first == list(generate(model, PROMPT, 30, seed=1))
    assert first != list(generate(model, PROMPT, 30, seed=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not model.blocks[0].training
    assert model.blocks[1].training


def test_may_run_inside_record_and_stop_in_the_middle():
    model = wild_model()
    with record() as trace:
        stream = generate(model, PROMPT, 5, seed=0)
        next(stream)
        assert len(trace) == 0
        assert torch.is_grad_enabled() is False  # record's own state is back between tokens
        stream.close()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": torch.tensor([], dtype=torch.int64)}, "at least 1 token"),
        ({"prompt": torch.tensor([[1]])}, "at least 1 token"),
        ({"prompt": torch.tensor([13])}, "outside 0 to 12"),
        ({"prompt": torch.tensor([-1])}, "outside 0 to 12"),
        ({"count": -1}, "given count=-1"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"block_size": 9}, "block_size is 9, but the model was trained on blocks of 8"),
        ({"block_size": 0}, "given block_size=0"),
    ],
)
def test_arguments_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"model": wild_model(), "prompt": PROMPT, "count": 1, **change})
