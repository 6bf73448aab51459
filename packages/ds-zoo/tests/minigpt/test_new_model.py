"""A MiniGPT before any training: its sizes and its initial weights."""

import math

import pytest
import torch
from ds_core import no_record
from ds_zoo import MiniGPT, MiniGPTConfig, TokenCrossEntropy


def test_initial_weights():
    model = MiniGPT(MiniGPTConfig(200, 64, 8, 4, 64, dropout=0.0), generator=torch.Generator().manual_seed(0))
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif "norm" in name:
            assert (tensor == 1).all(), name
        else:
            ends = name.endswith(("out_proj.weight", "linear2.weight"))
            deviation = 0.02 / math.sqrt(16) if ends else 0.02
            assert float(tensor.detach().std()) == pytest.approx(deviation, rel=0.05), name
    tokens = torch.randint(200, (8, 65), generator=torch.Generator().manual_seed(1))
    with no_record():
        loss = TokenCrossEntropy()(model(tokens[:, :-1]), tokens[:, 1:])
    assert float(loss) == pytest.approx(math.log(200), rel=0.02)  # an untrained model guesses


def test_without_bias_there_is_none_anywhere():
    names = [name for name, _ in MiniGPT(MiniGPTConfig(9, 6, 2, 2, 8, bias=False)).named_parameters()]
    assert names
    assert not [name for name in names if "bias" in name]


def test_the_same_seed_gives_the_same_model():
    torch.manual_seed(3)
    first = MiniGPT(MiniGPTConfig(9, 6, 1, 2, 8))
    state = torch.get_rng_state()
    torch.manual_seed(3)
    second = MiniGPT(MiniGPTConfig(9, 6, 1, 2, 8))
    assert torch.equal(torch.get_rng_state(), state)
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_heads": 3}, ValueError, "3 heads do not divide an embed_dim of 8"),
        ({"num_layers": 0}, ValueError, "given num_layers=0"),
        ({"embed_dim": 8.0}, TypeError, r"given embed_dim=8\.0"),
        ({"hidden_dim": 2.0}, TypeError, r"given hidden_dim=2\.0"),
        ({"hidden_dim": 0}, ValueError, "given hidden_dim=0"),
        ({"attention_dropout": -0.1}, ValueError, r"given attention_dropout=-0\.1"),
        ({"embedding_dropout": 1.0}, ValueError, "given embedding_dropout=1"),
        ({"num_heads": True}, TypeError, "given num_heads=True"),
        ({"dropout": 1.0}, ValueError, "given dropout=1"),
        ({"bias": 1}, TypeError, "bias is 1"),
        ({"epsilon": 0.0}, ValueError, r"given epsilon=0\.0"),
        ({"epsilon": "1e-5"}, TypeError, "given epsilon='1e-5', expected a number"),
        ({"dropout": None}, TypeError, "given dropout=None, expected a number"),
    ],
)
def test_impossible_sizes(change, error, message):
    with pytest.raises(error, match=message):
        MiniGPTConfig(**{"vocab_size": 9, "block_size": 6, "num_layers": 1, "num_heads": 2, "embed_dim": 8, **change})
