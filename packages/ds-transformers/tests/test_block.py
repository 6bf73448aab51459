import pytest
import torch
from ds_core import GELU, LayerNorm, Linear, Recompute, Sequential, Tanh, no_record, record
from ds_core.testing import check_layer
from ds_transformers import FeedForward, KeyValueCache, PreNormBlock, SelfAttention


def make_block(width=6, heads=3, hidden=8, causal=True, dropout=0.0, stochastic_depth=0.0, **options):
    return PreNormBlock(
        SelfAttention(width, heads, causal=causal, dropout=dropout, **options),
        FeedForward(width, hidden, GELU(), dropout=dropout),
        norm1=LayerNorm(width),
        norm2=LayerNorm(width),
        dropout=dropout,
        stochastic_depth=stochastic_depth,
    )


TORCH_NAMES = {"attention.": "self_attn.", "feed_forward.linear": "linear"}


class TorchBlock(torch.nn.TransformerEncoderLayer):
    """PyTorch's pre-norm layer under our names."""

    def __init__(self, causal):
        super().__init__(6, 3, 8, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.causal = causal

    def forward(self, x):
        length = x.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1) if self.causal else None
        return super().forward(x, src_mask=mask)


def translated(state):
    for ours, theirs in TORCH_NAMES.items():
        state = {name.replace(ours, theirs): tensor for name, tensor in state.items()}
    return state


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradients(dropout, implementation):
    check_layer(make_block(dropout=dropout, implementation=implementation), torch.randn(2, 4, 6))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("stochastic_depth", [0.4, 1.0])
def test_gradients_with_stochastic_depth(dropout, stochastic_depth):
    check_layer(make_block(dropout=dropout, stochastic_depth=stochastic_depth), torch.randn(3, 4, 6))


@pytest.mark.parametrize("causal", [False, True])
def test_like_torchs_encoder_layer(causal):
    block, theirs = make_block(causal=causal).double(), TorchBlock(causal).double()
    theirs.load_state_dict(translated(block.state_dict()))
    x, dy = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = theirs(leaf)
    expected.backward(dy)
    with record():
        y = block(x)
        dx = block.backward(dy)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dx, leaf.grad, rtol=1e-12, atol=1e-12)
    gradients = {name: tensor.grad for name, tensor in block.named_parameters()}
    for name, tensor in theirs.named_parameters():
        torch.testing.assert_close(translated(gradients)[name], tensor.grad, rtol=1e-12, atol=1e-12)


def test_worked_example():
    """Parts that double and triple: y = x + 2 x, z = y + 3 y = 12 x; so dy = 4 dz, dx = 3 dy = 12 dz."""
    parts = [Linear(2, 2, bias=False) for _ in range(4)]
    for part, factor in zip(parts, (1.0, 2.0, 1.0, 3.0), strict=True):
        part.load_state_dict({"weight": factor * torch.eye(2)})
    norm1, attention, norm2, feed_forward = parts
    block = PreNormBlock(attention, feed_forward, norm1=norm1, norm2=norm2)
    x, dz = torch.tensor([[[1.0, -2.0], [0.5, 3.0]]]), torch.tensor([[[1.0, 2.0], [-1.0, 0.25]]])
    with record():
        z = block(x)
        dx = block.backward(dz)
    assert torch.equal(z, 12 * x)
    assert torch.equal(dx, 12 * dz)
    assert torch.equal(feed_forward.weight.grad, dz[0].t() @ (3 * x[0]))
    assert torch.equal(norm1.weight.grad, (2 * 4 * dz[0]).t() @ x[0])


def test_parts_may_keep_their_output():
    """As Tanh does for its backward: what a part returns is not written over."""
    parts = [Sequential(Linear(3, 3), Tanh()) for _ in range(2)]
    check_layer(PreNormBlock(*parts, norm1=LayerNorm(3), norm2=LayerNorm(3)), torch.randn(2, 4, 3))


def test_blocks_in_a_row_with_a_cache_equal_the_whole():
    blocks = [make_block().double() for _ in range(2)]
    caches = [KeyValueCache(2, 3, 9, 2, dtype=torch.float64) for _ in blocks]
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    with no_record():
        parts = []
        for piece in x.split([4, 1, 1, 3], 1):
            for block, cache in zip(blocks, caches, strict=True):
                piece = block(piece, cache=cache)
            parts.append(piece)
        whole = blocks[1](blocks[0](x))
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stochastic_depth", [0.0, 0.5])
def test_recomputed_blocks_give_the_same_gradients(stochastic_depth):
    block = make_block(dropout=0.3, stochastic_depth=stochastic_depth).double()
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
        assert torch.equal(block(x), x)
        assert not torch.equal(block.eval()(x), x)


def test_an_example_goes_without_either_branch():
    """An example is x, one of its two branches doubled, or both: four cases, each by its own draw."""
    torch.manual_seed(0)
    width, examples, p = 2, 64, 0.5
    parts = [Linear(width, width, bias=False) for _ in range(4)]
    for part, factor in zip(parts, (1.0, 2.0, 1.0, 3.0), strict=True):
        part.load_state_dict({"weight": factor * torch.eye(width)})
    norm1, attention, norm2, feed_forward = parts
    block = PreNormBlock(attention, feed_forward, norm1=norm1, norm2=norm2, stochastic_depth=p)
    x, dz = torch.ones(examples, 3, width), torch.randn(examples, 3, width)
    with record():
        z = block(x)
        dx = block.backward(dz)
    # y = x or x + 2 (2 x) = 5 x, z = y or y + 2 (3 y) = 7 y
    assert set(z.flatten().tolist()) == {1.0, 5.0, 7.0, 35.0}
    assert torch.equal(z, z[:, :1, :1].expand_as(z))
    torch.testing.assert_close(dx, z * dz)
    assert torch.equal(block.eval()(x), 12 * x)


def test_without_stochastic_depth_nothing_of_it_is_there():
    block = make_block()
    assert all("stochastic" not in name for name, _ in block.named_modules())
    assert list(make_block(stochastic_depth=0.1).state_dict()) == list(block.state_dict())
    with pytest.raises(ValueError, match=r"given p=1\.1, expected a probability"):
        make_block(stochastic_depth=1.1)


def test_names_of_the_parameters():
    names = [name for name, _ in make_block().named_parameters()]
    assert names == [
        "norm1.weight",
        "norm1.bias",
        "attention.in_proj_weight",
        "attention.in_proj_bias",
        "attention.out_proj.weight",
        "attention.out_proj.bias",
        "norm2.weight",
        "norm2.bias",
        "feed_forward.linear1.weight",
        "feed_forward.linear1.bias",
        "feed_forward.linear2.weight",
        "feed_forward.linear2.bias",
    ]
