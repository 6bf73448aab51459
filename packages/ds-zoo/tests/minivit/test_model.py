import copy

import pytest
import torch
from ds_core import AdamW, Recompute, ShapeError, TraceError, record, whole_step
from ds_core.testing import check_layer, one_graph
from ds_zoo import MiniViT, MiniViTConfig, MiniViTForImageClassification
from ds_zoo.minivit import MiniViTOutput

SMALL = {"image_size": 7, "patch_size": 3, "num_channels": 2, "num_layers": 2, "num_heads": 2, "hidden_dim": 9}


def small(seed=0, pooler=True, implementation=None, **changes):
    config = MiniViTConfig(**{**SMALL, "embed_dim": 8, **changes})
    generator = torch.Generator().manual_seed(seed)
    model = MiniViT(config, pooler=pooler, implementation=implementation, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        for tensor in model.parameters():  # weights of ordinary size, so that every nonlinearity is felt
            tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype), alpha=0.2)
    return model


def test_worked_example():
    sizes = {"image_size": 2, "patch_size": 1, "num_channels": 1, "num_layers": 1, "num_heads": 1, "hidden_dim": 1}
    model = MiniViT(MiniViTConfig(**sizes, embed_dim=3, pooler_dim=1), dtype=torch.float64)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "norm" not in name:
                tensor.zero_()
        model.tokens.class_token.copy_(torch.tensor([1.0, 0, -1]))
        model.tokens.patches.weight.copy_(torch.tensor([1.0, -1, 0]).view(3, 1, 1, 1))
        model.pooler.weight.copy_(torch.tensor([[0.5, 0, -0.5]]))
    seen, inner = [], model.norm.backward

    def backward_of_norm(dh):  # what comes to it, and what it gives back
        seen.extend([dh.clone(), inner(dh)])
        return seen[-1]

    model.norm.backward = backward_of_norm

    def close(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=0)

    dh = torch.zeros(1, 5, 3, dtype=torch.float64)
    dh[0, :2] = torch.tensor([[0, 0.5, 0], [1, 0, 0]])
    with record():
        output = model(torch.tensor([[[[2.0, 0], [0, 0]]]], dtype=torch.float64))
        model.backward(MiniViTOutput(dh, torch.tensor([[2.0]], dtype=torch.float64)))
    close(output.last_hidden_state[0, :3], [[1.22474, 0, -1.22474], [1.22474, -1.22474, 0], [0, 0, 0]])
    close(output.pooler_output, [[0.84105]])
    close(seen[0][0, :2], [[0.29264, 0.5, -0.29264], [1, 0, 0]])
    close(model.pooler.weight.grad, [[0.71681, 0, -0.71681]])
    close(model.pooler.bias.grad, [0.58528])
    close(seen[1][0, :2], [[-0.20412, 0.40825, -0.20412], [0.10206, 0.10206, -0.20412]])
    close(model.tokens.class_token.grad, [-0.20412, 0.40825, -0.20412])


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
@pytest.mark.parametrize("options", [{}, {"pooler": False}, {"qkv_bias": False}, {"pooler_dim": 3, "num_layers": 1}])
def test_gradients(options, implementation):
    check_layer(small(implementation=implementation, **options), torch.randn(2, 2, 7, 7))


def test_gradients_with_dropout():
    check_layer(small(dropout=0.2, attention_dropout=0.3), torch.randn(2, 2, 7, 7))


def test_gradients_at_another_size():
    check_layer(small(), torch.randn(2, 2, 10, 5), kwargs={"interpolate_pos_encoding": True})


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
def test_implementations_agree(implementation):
    x = torch.randn(2, 2, 7, 7, dtype=torch.float64)
    outputs = [small(implementation=name)(x).last_hidden_state for name in ("loops", implementation)]
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


def test_long_sequences_are_tiled():
    assert MiniViT(MiniViTConfig(**SMALL, embed_dim=8)).blocks[0].attention.implementation == "vectorized"
    many = MiniViTConfig(**{**SMALL, "image_size": 36}, embed_dim=8)
    assert many.num_tokens == 145
    assert MiniViT(many).blocks[0].attention.implementation == "tiled"
    assert MiniViT(many, implementation="vectorized").blocks[0].attention.implementation == "vectorized"


def test_qkv_bias():
    attention = small(qkv_bias=False).blocks[0].attention
    assert attention.in_proj_bias is None
    assert attention.out_proj.bias.requires_grad


def test_a_gradient_of_zeros_leaves_nothing_behind():
    for gradients in (None, MiniViTOutput()):
        model = small()
        with record() as trace:
            model(torch.randn(1, 2, 7, 7, dtype=torch.float64))
            model.backward(gradients)
            assert len(trace) == 0
        assert all(tensor.grad is None for tensor in model.parameters())


def test_recomputed_blocks_give_the_same_gradients():
    model = small(dropout=0.2, attention_dropout=0.2)
    frugal = copy.deepcopy(model)
    frugal.blocks = [Recompute(block) for block in frugal.blocks]
    x, dh = torch.randn(2, 2, 7, 7, dtype=torch.float64), torch.randn(2, 5, 8, dtype=torch.float64)
    for each in (model, frugal):
        torch.manual_seed(0)
        with record():
            each(x)
            each.backward(MiniViTOutput(dh))
    for ours, theirs in zip(model.parameters(), frugal.parameters(), strict=True):
        assert (ours.grad is None and theirs.grad is None) or torch.equal(ours.grad, theirs.grad)


def test_a_whole_training_step_compiled_equals_eager():
    body = small(pooler=False)
    model = MiniViTForImageClassification(body.config, vit=body, dtype=torch.float64)
    twin = copy.deepcopy(model)

    def step_of(own):
        optimizer = AdamW(own.parameters(), lr=1e-2, weight_decay=0.0)
        optimizer.prepare_compile()
        return whole_step(own, own.criterion(), optimizer, clip_norm=0.5)

    compiled, eager = one_graph(step_of(model)), step_of(twin)
    for seed in range(2):
        x = torch.randn(3, 2, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        batch = [(x, torch.tensor([0, 1, 1]))]
        torch.testing.assert_close(compiled(batch), eager(batch), rtol=1e-11, atol=1e-13)


def test_bfloat16_runs_and_stays_close():
    body = small(pooler=False)
    model = MiniViTForImageClassification(body.config, vit=body, dtype=torch.float64)
    x, labels = torch.randn(4, 2, 7, 7), torch.tensor([0, 1, 1, 0])
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype).zero_grad()
        with record():
            criterion = model.criterion()
            losses.append(float(criterion(model(x.to(dtype)), labels)))
            model.backward(criterion.backward())
        assert all(tensor.grad.dtype == dtype for tensor in model.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_initial_weights():
    config = MiniViTConfig(image_size=32, patch_size=4, num_layers=1, num_heads=4, embed_dim=128, hidden_dim=256)
    model = MiniViTForImageClassification(config, generator=torch.Generator().manual_seed(0))
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):
            assert not tensor.any()
        elif "norm" in name:
            assert torch.equal(tensor, torch.ones_like(tensor))
        else:
            assert float(tensor.detach().std()) == pytest.approx(0.02, rel=0.2), name
    again = MiniViTForImageClassification(config, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_images_that_do_not_fit():
    with pytest.raises(ShapeError, match="expected 7 x 7"):
        small()(torch.zeros(1, 2, 8, 7, dtype=torch.float64))
    with pytest.raises(TraceError, match="outside record"):
        small().backward(MiniViTOutput(torch.zeros(1, 5, 8)))
