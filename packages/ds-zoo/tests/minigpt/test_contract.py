"""The contract of the zoo: what GPT2LMHeadModel of transformers computes, its loss and every gradient of it."""

import copy

import pytest
import safetensors.torch
import torch
import transformers
from ds_core import AdamW, no_record, plain, primitives_only, record
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.testing import report
from ds_zoo import MiniGPT

GPT2 = transformers.GPT2LMHeadModel
# vocab_size, n_positions, n_layer, n_head, n_embd; n_inner and others
CONFIGS = {
    "small": ((13, 8, 2, 2, 8), {}),
    "one layer, three heads": ((65, 11, 1, 3, 9), {"layer_norm_epsilon": 1e-3}),
    "narrow between": ((7, 9, 3, 1, 5), {"n_inner": 3}),
    "wide between": ((31, 16, 2, 4, 12), {"n_inner": 70}),
    "deep": ((11, 7, 5, 2, 6), {"n_inner": 24, "activation_function": "gelu_pytorch_tanh"}),
    "long": ((19, 150, 1, 2, 4), {}),  # tiled attention
}
MASKS = ("none", "left", "right", "holes", "one text of padding")


def their_model(name, **others):
    sizes, options = CONFIGS[name]
    names = ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")
    rates = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    tokens = {"bos_token_id": None, "eos_token_id": None}
    torch.manual_seed(0)
    config = transformers.GPT2Config(**dict(zip(names, sizes, strict=True)), **tokens, **{**rates, **options, **others})
    model = GPT2(config).double().eval()
    with torch.no_grad():  # weights of ordinary size, so that every nonlinearity is felt
        for tensor in model.parameters():
            tensor.add_(torch.randn_like(tensor), alpha=0.2)
    return model


def pair(name, folder, **options):
    theirs = their_model(name)
    theirs.save_pretrained(folder)
    return MiniGPT.from_pretrained(folder, **options), theirs


def batch_of(config, mask="none", seed=1, batch=3):
    """input_ids, attention_mask and labels; padding has labels of -100."""
    generator = torch.Generator().manual_seed(seed)
    time = config.block_size - 1
    tokens = torch.randint(config.vocab_size, (batch, time), generator=generator)
    seen = torch.ones(batch, time, dtype=torch.int64)
    if mask == "left":
        seen[0, :2] = seen[1, : time // 2] = 0
    elif mask == "right":
        seen[0, -2:] = seen[1, time // 2 :] = 0
    elif mask == "holes":
        seen = torch.randint(2, (batch, time), generator=generator)
        seen[0, 0] = 1
    elif mask == "one text of padding":
        seen[1] = 0
    labels = torch.where(seen == 1, tokens, -100)
    return tokens, (None if mask == "none" else seen), labels


def file_gradients(model, folder):
    """The gradients by the file's names: written into the parameters and saved as these are."""
    twin = copy.deepcopy(model)
    for own, tensor in zip(twin.parameters(), model.parameters(), strict=True):
        own.data = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.detach().clone()
    twin.save_pretrained(folder)
    return safetensors.torch.load_file(folder / "model.safetensors")


def compare(ours, theirs):
    assert ours.keys() == theirs.keys()
    largest = max(float(tensor.abs().max()) for tensor in theirs.values())
    for name, expected in theirs.items():
        size = float(expected.abs().max())
        against = largest if size < 1e-5 * largest else size
        assert float((ours[name] - expected).abs().max()) <= 1e-8 * against, name


def their_loss(logits, labels):
    """transformers' own in float64, which it would round to float32: the labels shifted, -100 left out."""
    shifted = torch.nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), shifted.flatten(), ignore_index=-100)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_loss_and_every_gradient(name, mask, tmp_path):
    ours, theirs = pair(name, tmp_path / "model")
    tokens, seen, labels = batch_of(ours.config, mask)
    expected = theirs(tokens, attention_mask=seen).logits
    criterion = ours.criterion()
    with record():
        logits = ours(tokens, attention_mask=seen)
        loss = criterion(logits, labels=labels)
        dlogits = criterion.backward()
        ours.backward(dlogits)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-10, atol=1e-10)  # padded rows included
    wanted = their_loss(expected, labels)
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-12, atol=1e-12)
    rounded = theirs(tokens, attention_mask=seen, labels=labels).loss
    torch.testing.assert_close(loss.float(), rounded.detach().float(), rtol=1e-5, atol=1e-6)
    wanted.backward()
    compare(file_gradients(ours, tmp_path / "ours"), file_gradients(theirs, tmp_path / "theirs"))

    ours.zero_grad()
    theirs.zero_grad()
    dy = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    theirs(tokens, attention_mask=seen).logits.backward(dy)
    with record():
        ours(tokens, attention_mask=seen)
        ours.backward(dy)
    compare(file_gradients(ours, tmp_path / "ours"), file_gradients(theirs, tmp_path / "theirs"))


POSITIONS = {
    "from the mask": (
        torch.tensor([[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]),
        torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6]),
    ),
    "shifted": (torch.tensor([[2, 3, 4, 5, 6, 7]]), None),
    "two texts in a row": (torch.tensor([[0, 1, 2, 0, 1, 2], [0, 0, 1, 2, 3, 4]]), None),
    "jumps": (torch.tensor([[7, 3, 3, 4, 0, 1], [0, 1, 2, 3, 4, 5]]), None),
    "jumps and a mask": (torch.tensor([[7, 3, 3, 4, 0, 1], [5, 4, 3, 2, 1, 0]]), torch.ones(2, 6)),
}


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
@pytest.mark.parametrize("case", POSITIONS)
def test_position_ids(case, implementation, tmp_path):
    ours, theirs = pair("small", tmp_path / "model", implementation=implementation)
    positions, seen = POSITIONS[case]
    tokens = batch_of(ours.config, batch=2)[0][:, :6]
    expected = theirs(tokens, attention_mask=seen, position_ids=positions).logits
    dy = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected.backward(dy)
    with record():
        logits = ours(tokens, attention_mask=seen, position_ids=positions)
        ours.backward(dy)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-10, atol=1e-10)
    compare(file_gradients(ours, tmp_path / "ours"), file_gradients(theirs, tmp_path / "theirs"))


@pytest.mark.parametrize("name", ["small", "narrow between"])
def test_round_trip_after_training_and_ten_steps_of_adamw(name, tmp_path):
    ours, theirs = pair(name, tmp_path / "model")
    settings = {"lr": 3e-3, "betas": (0.9, 0.99)}
    optimizers = AdamW(decay_groups(ours, 0.1), **settings), torch.optim.AdamW(decay_groups(theirs, 0.1), **settings)
    for step in range(10):
        tokens, seen, labels = batch_of(ours.config, "left", seed=step)
        criterion = ours.criterion()
        with record():
            loss = criterion(ours(tokens, attention_mask=seen), labels=labels)
            ours.backward(criterion.backward())
        expected = their_loss(theirs(tokens, attention_mask=seen).logits, labels)
        expected.backward()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-8, atol=1e-10)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    files = [safetensors.torch.load_file(tmp_path / each / "model.safetensors") for each in ("ours", "theirs")]
    assert files[0].keys() == files[1].keys()
    for key, expected in files[1].items():
        if not key.endswith(
            "attn.c_attn.bias"
        ):  # the gradient of the keys' bias is rounding, of which Adam makes a step
            torch.testing.assert_close(files[0][key], expected, rtol=1e-6, atol=1e-7, msg=lambda m, k=key: f"{k}: {m}")
    again, info = GPT2.from_pretrained(tmp_path / "ours", dtype=torch.float64, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    tokens, seen, _ = batch_of(ours.config, "holes")
    with no_record():
        found = ours.eval()(tokens, attention_mask=seen)
        torch.testing.assert_close(again.eval()(tokens, attention_mask=seen).logits, found, rtol=1e-10, atol=1e-10)
        own = MiniGPT.from_pretrained(tmp_path / "ours")(tokens, attention_mask=seen)
        assert torch.equal(own, found)
    assert again.config.n_inner == ours.config.hidden_dim


@pytest.mark.parametrize("mask", ["none", "left"])
def test_handwritten_equals_autograd_for_every_parameter(mask, tmp_path):
    ours, _ = pair("narrow between", tmp_path)
    tokens, seen, labels = batch_of(ours.config, mask)

    class Masked(MiniGPT):
        def forward(self, input_ids):
            return super().forward(input_ids, attention_mask=seen, position_ids=torch.arange(8)[None] // 2 + 1)

    masked = Masked(ours.config, dtype=torch.float64)
    masked.load_state_dict(ours.state_dict())
    found = report(masked, tokens, ours.criterion(), labels)
    assert found.ok, str(found)
    assert len(found.rows) == len(list(ours.parameters()))


@pytest.mark.parametrize("mask", ["none", "left"])
def test_a_whole_step_is_primitive_and_the_plain_pairs_give_the_same(mask, tmp_path):
    ours, _ = pair("wide between", tmp_path)
    tokens, seen, labels = batch_of(ours.config, mask)

    def gradients():
        criterion = ours.criterion()
        ours.zero_grad()
        with record():
            loss = criterion(ours(tokens, attention_mask=seen, position_ids=torch.arange(15)[None]), labels=labels)
            ours.backward(criterion.backward())
        return [loss, *(tensor.grad.clone() for tensor in ours.parameters())]

    with primitives_only() as operations:
        expected = gradients()
        AdamW(ours.parameters(), lr=0.0).step()
    assert sum(operations.values()) > 100
    with plain():
        found = gradients()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


def test_one_batch_is_overfitted(tmp_path):
    ours, _ = pair("small", tmp_path)
    optimizer = AdamW(ours.parameters(), lr=1e-2, weight_decay=0.0)
    tokens, seen, labels = batch_of(ours.config, "left")
    for _ in range(150):
        criterion = ours.criterion()
        with record():
            loss = criterion(ours(tokens, attention_mask=seen), labels=labels)
            ours.backward(criterion.backward())
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss) < 0.02


def test_cached_pieces_with_padding_equal_the_whole(tmp_path):
    ours, theirs = pair("small", tmp_path)
    tokens, seen, _ = batch_of(ours.config, "left")
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    expected = theirs(tokens, attention_mask=seen, position_ids=positions).logits.detach()
    cache = ours.new_cache(3)
    ends = [3, 4, 7]
    with no_record():
        parts = [
            ours(tokens[:, a:b], cache, attention_mask=seen[:, :b], position_ids=positions[:, a:b])
            for a, b in zip([0, *ends], ends, strict=False)
        ]
    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=1e-10, atol=1e-10)
