import copy

import pytest
import torch
import transformers
from ds_core import (
    AdamW,
    Recompute,
    ShapeError,
    TraceError,
    clip_grad_norm_,
    no_record,
    primitives_only,
    record,
    whole_step,
)
from ds_core.activations.softmax import softmax
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.testing import one_graph, report
from ds_zoo import MiniGPT, MiniGPTConfig, TokenCrossEntropy

# vocab_size, block_size, num_layers, num_heads, embed_dim, and the shape (B, T) of the tokens
SIZES = [
    ((11, 8, 1, 1, 4), (2, 8)),
    ((65, 16, 2, 3, 12), (3, 9)),
    ((5, 4, 4, 2, 16), (1, 1)),
    ((300, 32, 2, 4, 32), (2, 32)),
]


def config_of(sizes, **options):
    names = ("vocab_size", "block_size", "num_layers", "num_heads", "embed_dim")
    return MiniGPTConfig(**dict(zip(names, sizes, strict=True)), **{"dropout": 0.0, **options})


def without_key_bias(name, tensor):
    """A parameter without the bias of keys, whose gradient is rounding alone: Adam would make a step of it."""
    if not name.endswith("in_proj_bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


def rough(model, seed=0):
    """Weights of ordinary size in place of the initial 0.02, so that every nonlinearity is felt."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype), alpha=0.2)
    return model


def block_of_tokens(model, shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    batch, time = shape
    tokens = torch.randint(model.config.vocab_size, (batch, time + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def handwritten_step(model, tokens, targets):
    criterion = TokenCrossEntropy()
    with record():
        logits = model(tokens)
        loss = criterion(logits, targets)
        model.backward(criterion.backward())
    return logits, loss


def their_twin(model, folder):
    model.save_pretrained(folder)
    twin = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64)
    return twin.eval()


def their_loss(twin, tokens, targets):
    logits = twin(tokens).logits
    return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def their_gradients(twin, model):
    """Those of the twin under our names, matrices turned as ours stand."""
    from ds_zoo.minigpt.pretrained import key_map

    named = dict(twin.named_parameters())
    return {
        ours: named[key.name].grad.t() if key.transposed else named[key.name].grad
        for ours, key in key_map(model.config).items()
    }


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
@pytest.mark.parametrize(("sizes", "shape"), SIZES)
def test_logits_loss_and_every_gradient_equal_transformers(sizes, shape, implementation, tmp_path):
    model = rough(MiniGPT(config_of(sizes), implementation=implementation, dtype=torch.float64))
    tokens, targets = block_of_tokens(model, shape)
    logits, loss = handwritten_step(model, tokens, targets)
    twin = their_twin(model, tmp_path)
    expected_logits, expected_loss = their_loss(twin, tokens, targets)
    expected_loss.backward()
    torch.testing.assert_close(logits, expected_logits.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-9, atol=1e-9)
    expected = their_gradients(twin, model)
    ours = dict(model.named_parameters())
    assert set(ours) == set(expected)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor.grad, expected[name], rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def test_ten_adamw_steps_follow_pytorch(tmp_path):
    model = MiniGPT(config_of((11, 8, 2, 2, 8)), dtype=torch.float64)
    twin = their_twin(model, tmp_path).train()
    settings = {"lr": 3e-3, "betas": (0.9, 0.99)}
    ours = AdamW(decay_groups(model, 0.1), **settings)
    theirs = torch.optim.AdamW(decay_groups(twin, 0.1), **settings)
    for step in range(10):
        tokens, targets = block_of_tokens(model, (4, 8), seed=step)
        _, loss = handwritten_step(model, tokens, targets)
        clip_grad_norm_(model.parameters(), 1.0)
        ours.step()
        ours.zero_grad()
        _, expected_loss = their_loss(twin, tokens, targets)
        expected_loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        theirs.step()
        theirs.zero_grad()
        torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-9, atol=1e-9)
    twin.save_pretrained(tmp_path / "after")
    again = MiniGPT.from_pretrained(tmp_path / "after", dropout=0.0)
    theirs = dict(again.named_parameters())
    for name, tensor in model.named_parameters():
        found, expected = (without_key_bias(name, given) for given in (tensor, theirs[name]))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_handwritten_equals_autograd_for_every_parameter(bias):
    model = rough(MiniGPT(config_of((9, 6, 2, 2, 8), bias=bias)))
    tokens, targets = block_of_tokens(model, (2, 6))
    found = report(model, tokens, TokenCrossEntropy(), targets)
    assert found.ok, str(found)
    assert len(found.rows) == len(list(model.parameters()))


def test_dropout_gradients_equal_autograd():
    model = rough(MiniGPT(config_of((9, 6, 2, 2, 8), dropout=0.3), dtype=torch.float64))
    tokens, targets = block_of_tokens(model, (2, 6))
    torch.manual_seed(5)
    handwritten_step(model, tokens, targets)
    ours = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
    model.zero_grad()
    torch.manual_seed(5)
    TokenCrossEntropy()(model(tokens), targets).backward()
    for name, tensor in model.named_parameters():
        torch.testing.assert_close(ours[name], tensor.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
def test_a_full_training_step_is_primitive(implementation):
    model = MiniGPT(config_of((9, 6, 2, 2, 8), dropout=0.1), implementation=implementation)
    optimizer = AdamW(decay_groups(model, 0.1), lr=1e-3)
    tokens, targets = block_of_tokens(model, (2, 6))
    with primitives_only() as ops:
        handwritten_step(model, tokens, targets)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert sum(ops.values()) > 100


def test_a_whole_training_step_compiled_equals_eager():
    model = MiniGPT(config_of((9, 6, 1, 2, 8)), dtype=torch.float64)
    twin = copy.deepcopy(model)

    def step_of(own):
        # a number, which stays: for a tensor of no dimensions the compiler traces twice, as test_compile_step.py has it
        optimizer = AdamW(decay_groups(own, 0.1), lr=1e-2)
        optimizer.prepare_compile()
        return whole_step(own, TokenCrossEntropy(), optimizer, clip_norm=0.5)

    compiled = one_graph(step_of(model))
    eager = step_of(twin)
    for index in range(2):
        batch = [block_of_tokens(model, (2, 6), seed=index)]
        torch.testing.assert_close(compiled(batch), eager(batch), rtol=1e-11, atol=1e-13)
    theirs = dict(twin.named_parameters())
    for name, tensor in model.named_parameters():
        found, expected = (without_key_bias(name, given) for given in (tensor, theirs[name]))
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def test_overfits_one_batch():
    model = MiniGPT(config_of((9, 6, 2, 2, 16)), generator=torch.Generator().manual_seed(0))
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    tokens, targets = block_of_tokens(model, (2, 6))
    for _ in range(120):
        _, loss = handwritten_step(model, tokens, targets)
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss) < 0.01


def test_worked_example():
    # docs/minigpt/model.md: the branches of the block are zero, so that only embedding, normalisation and head remain
    model = MiniGPT(config_of((2, 1, 1, 1, 3), bias=False, epsilon=1e-12), dtype=torch.float64)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "norm" not in name:
                tensor.zero_()
        model.tokens.weight.copy_(torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]))
    seen, inner = [], model.norm.backward

    def backward_of_norm(dh):  # what stands in the middle: dh, the head's part of dW, and what the norm gives back
        seen.extend([dh.clone(), model.tokens.weight.grad.clone()])
        seen.append(inner(dh))
        return seen[-1]

    model.norm.backward = backward_of_norm
    token = torch.tensor([[0]])
    logits, loss = handwritten_step(model, token, torch.tensor([[1]]))
    with no_record():
        h = model._hidden(token, None)
        p = softmax(logits, -1)

    def close(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=0)

    close(logits, [[[2.44949, 0.0]]])
    close(loss, 2.53230)
    close(h, [[[1.22474, 0.0, -1.22474]]])
    close(p[0, 0, 0], 0.92052)
    dh, dhead, dx = seen
    close(dh, [[[0.92052, -0.92052, -0.92052]]])
    close(dhead, [[1.12741, 0.0, -1.12741], [-1.12741, 0.0, 1.12741]])
    close(dx, [[[0.37580, -0.75160, 0.37580]]])
    close(model.positions.weight.grad, [[0.37580, -0.75160, 0.37580]])
    close(model.tokens.weight.grad, [[1.50321, -0.75160, -0.75160], [-1.12741, 0.0, 1.12741]])


def test_a_gradient_of_zeros_leaves_nothing_behind():
    model = MiniGPT(config_of((9, 6, 2, 2, 8)))
    with record() as trace:
        model(torch.tensor([[1, 2]]))
        model.backward(None)
        assert len(trace) == 0
    assert all(tensor.grad is None for tensor in model.parameters())


def test_recomputed_blocks_give_the_same_gradients():
    model = rough(MiniGPT(config_of((9, 6, 2, 2, 8), dropout=0.2), dtype=torch.float64))
    frugal = copy.deepcopy(model)
    frugal.blocks = [Recompute(block) for block in frugal.blocks]
    tokens, targets = block_of_tokens(model, (2, 6))
    for each in (model, frugal):
        torch.manual_seed(0)
        handwritten_step(each, tokens, targets)
    for ours, theirs in zip(model.parameters(), frugal.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_bfloat16_runs_and_stays_close():
    model = MiniGPT(config_of((9, 6, 2, 2, 8)))
    tokens, targets = block_of_tokens(model, (2, 6))
    _, expected = handwritten_step(model, tokens, targets)
    _, loss = handwritten_step(model.bfloat16(), tokens, targets)
    assert all(tensor.grad.dtype == torch.bfloat16 for tensor in model.parameters())
    assert float(loss) == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("tokens", [torch.zeros(1, 7, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)])
def test_tokens_that_do_not_fit(tokens):
    with pytest.raises(ShapeError, match="at most 6 tokens"):
        MiniGPT(config_of((9, 6, 1, 2, 8)))(tokens)


def test_backward_outside_record_says_how():
    model = MiniGPT(config_of((9, 6, 1, 2, 8)))
    with pytest.raises(TraceError, match="outside record"):
        model.backward(torch.zeros(1, 2, 9))
