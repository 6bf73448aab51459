import pytest
import torch
from ds_core import GELU, LayerNorm, Linear, Recompute, Sequential, Tanh, no_record, record
from ds_core.testing import check_layer
from ds_transformers import FeedForward, PostNormBlock, SelfAttention

PARTS = ("attention", "feed_forward", "norm1", "norm2")


def make_block(width=6, heads=3, hidden=8, dropout=0.0, **options):
    return PostNormBlock(
        SelfAttention(width, heads, dropout=dropout, **options),
        FeedForward(width, hidden, GELU()),
        norm1=LayerNorm(width),
        norm2=LayerNorm(width),
        dropout=dropout,
    )


def translated(state):
    renamed = {"attention.": "self_attn.", "feed_forward.linear": "linear"}
    for ours, theirs in renamed.items():
        state = {name.replace(ours, theirs): tensor for name, tensor in state.items()}
    return state


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradients(dropout, implementation):
    check_layer(make_block(dropout=dropout, implementation=implementation), torch.randn(2, 4, 6))


def test_like_torchs_encoder_layer():
    block = make_block().double()
    theirs = torch.nn.TransformerEncoderLayer(6, 3, 8, 0.0, "gelu", batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for tensor in block.parameters():
            tensor.add_(torch.randn_like(tensor), alpha=0.3)
    theirs.load_state_dict(translated(block.state_dict()))
    x, dy = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    hidden = torch.tensor([[False] * 5, [True, False, False, True, False], [False, False, False, True, True]])
    leaf = x.clone().requires_grad_()
    expected = theirs(leaf, src_key_padding_mask=hidden)
    expected.backward(dy)
    with record():
        y = block(x, key_padding_mask=hidden)
        dx = block.backward(dy)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dx, leaf.grad, rtol=1e-12, atol=1e-12)
    gradients = translated({name: tensor.grad for name, tensor in block.named_parameters()})
    for name, tensor in theirs.named_parameters():
        torch.testing.assert_close(gradients[name], tensor.grad, rtol=1e-12, atol=1e-12)


def test_worked_example():
    parts = [Linear(2, 2, bias=False, dtype=torch.float64) for _ in range(2)]
    for part, factor in zip(parts, (2.0, 0.5), strict=True):
        part.load_state_dict({"weight": factor * torch.eye(2)})
    block = PostNormBlock(*parts, norm1=LayerNorm(2, 3.0).double(), norm2=LayerNorm(2, 3.0).double())
    seen = {}

    def noted(name):
        inner = getattr(block, name).backward

        def backward(dy, **options):
            seen[f"into {name}"] = dy.clone()
            seen[f"out of {name}"] = inner(dy, **options)
            return seen[f"out of {name}"]

        return backward

    for name in ("norm1", "norm2"):
        getattr(block, name).backward = noted(name)
    x, dz = torch.tensor([[[1.0, -1.0]], [[1.0, 0.0]]], dtype=torch.float64)
    with record():
        z = block(x)
        dx = block.backward(dz)

    def close(found, expected):
        torch.testing.assert_close(found.flatten(), torch.tensor(expected).double(), atol=5e-5, rtol=0)

    close(z, [0.6, -0.6])
    close(seen["out of norm2"], [0.1478, -0.1478])
    close(seen["into norm1"], [0.2217, -0.2217])
    close(seen["out of norm1"], [0.0160, -0.0160])
    close(dx, [0.0480, -0.0480])
    y = torch.tensor([0.8660, -0.8660])
    close(block.norm1(3 * x), y.tolist())
    close(1.5 * block.norm1(3 * x), [1.2990, -1.2990])
    assert (1.5 * y.double()).square().mean() == pytest.approx(1.6875, abs=2e-4)
    assert pytest.approx(2.1651, abs=5e-5) == 4.6875**0.5
    assert float((dz.flatten() * z.flatten()).mean()) == pytest.approx(0.3)
    assert float((seen["into norm1"].flatten() * y).mean()) == pytest.approx(0.1920, abs=5e-5)


def test_parts_may_keep_their_output():
    """As Tanh does for its backward: what a part returns is not written over."""
    parts = [Sequential(Linear(3, 3), Tanh()) for _ in range(2)]
    check_layer(PostNormBlock(*parts, norm1=LayerNorm(3), norm2=LayerNorm(3)), torch.randn(2, 4, 3))


@pytest.mark.parametrize("trained", PARTS)
@pytest.mark.parametrize("input_gradient", [False, True])
def test_one_part_alone_is_trained(trained, input_gradient):
    """Its gradients are those of the whole block's, whatever is frozen around it."""
    block = make_block().double()
    x, dz = torch.randn(2, 2, 4, 6, dtype=torch.float64)
    with record():
        block(x)
        expected_dx = block.backward(dz)
    expected = {name: tensor.grad for name, tensor in block.named_parameters()}
    block.zero_grad()
    for name in PARTS:
        getattr(block, name).requires_grad_(name == trained)
    with record():
        block(x)
        dx = block.backward(dz, input_gradient=input_gradient)
    if input_gradient:
        assert torch.equal(dx, expected_dx)
    else:
        assert dx is None
    for name, tensor in block.named_parameters():
        if name.startswith(trained):
            assert torch.equal(tensor.grad, expected[name])
        else:
            assert tensor.grad is None


def test_a_gradient_of_zeros_leaves_nothing_behind():
    block = make_block(dropout=0.1)
    with record() as trace:
        block(torch.randn(2, 4, 6))
        assert block.backward(None) is None
        assert len(trace) == 0
    assert all(tensor.grad is None for tensor in block.parameters())


def test_a_recomputed_block_gives_the_same_gradients():
    block = make_block(dropout=0.3).double()
    x, dy = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    found = []
    for run in (block, Recompute(block)):
        block.zero_grad()
        torch.manual_seed(0)
        with record():
            run.forward(x)
            dx = run.backward(dy)
        found.append([dx, *(tensor.grad for tensor in block.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_dropout_stands_on_both_branches():
    block = make_block(dropout=1.0)
    x = torch.randn(2, 4, 6)
    with no_record():
        torch.testing.assert_close(block(x), block.norm2(block.norm1(x)))
        assert not torch.equal(block.eval()(x), block.norm2(block.norm1(x)))


def test_a_dropout_that_is_no_probability():
    with pytest.raises(ValueError, match=r"given p=1\.1, expected a probability"):
        PostNormBlock(Linear(2, 2), Linear(2, 2), norm1=LayerNorm(2), norm2=LayerNorm(2), dropout=1.1)


def test_names_of_the_parameters():
    names = {name.rpartition(".")[0] for name, _ in make_block().named_parameters()}
    linear = {"attention.out_proj", "feed_forward.linear1", "feed_forward.linear2"}
    assert names == {"attention", "norm1", "norm2"} | linear
