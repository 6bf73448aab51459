"""One of our layers in a model that is otherwise plain PyTorch, beside the model that has PyTorch's own."""

import pytest
import torch
from attention_twins import without_key_bias
from ds_core.interop import as_torch
from ds_transformers import MultiheadAttention, Transformer, TransformerDecoderLayer, TransformerEncoderLayer

ORDERS = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
OPTIONS = {"dim_feedforward": 12, "dropout": 0.0, "batch_first": True, "dtype": torch.float64}


class Classifier(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 8, dtype=torch.float64)
        self.layer = layer
        self.head = torch.nn.Linear(8, 3, dtype=torch.float64)

    def forward(self, tokens, padding):
        return self.head(self.layer(self.embedding(tokens), src_key_padding_mask=padding)[:, 0])


def batches(steps):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        tokens = torch.randint(11, (6, 5), generator=generator)
        lengths = torch.randint(1, 6, (6, 1), generator=generator)
        yield tokens, torch.arange(5) >= lengths, tokens[:, 0] % 3


@ORDERS
def test_training_beside_the_twin(norm_first):
    theirs = Classifier(torch.nn.TransformerEncoderLayer(8, 2, **OPTIONS, norm_first=norm_first))
    ours = Classifier(as_torch(TransformerEncoderLayer(8, 2, **OPTIONS, norm_first=norm_first)))
    ours.load_state_dict(theirs.state_dict())
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.01) for model in (ours, theirs)]
    first = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    for tokens, padding, classes in batches(10):
        losses = []
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(tokens, padding), classes)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        found, expected = (without_key_bias(name, given) for given in (ours.state_dict()[name], tensor))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
        assert not torch.allclose(tensor, first[name])
    back = Classifier(torch.nn.TransformerEncoderLayer(8, 2, **OPTIONS, norm_first=norm_first))
    back.load_state_dict(ours.state_dict())
    tokens, padding, _ = next(batches(1))
    torch.testing.assert_close(back(tokens, padding), ours(tokens, padding), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
@pytest.mark.parametrize("name", ["encoder layer", "decoder layer", "whole"])
def test_weights_go_there_and_back(name):
    ours, theirs = {
        "encoder layer": (TransformerEncoderLayer(8, 2, 12), torch.nn.TransformerEncoderLayer(8, 2, 12)),
        "decoder layer": (TransformerDecoderLayer(8, 2, 12), torch.nn.TransformerDecoderLayer(8, 2, 12)),
        "whole": (Transformer(8, 2, 1, 2, 12), torch.nn.Transformer(8, 2, 1, 2, 12)),
    }[name]
    wrapped = as_torch(ours)
    assert list(wrapped.state_dict()) == list(ours.state_dict()) == list(theirs.state_dict())
    for tensor in theirs.parameters():
        torch.nn.init.normal_(tensor)
    wrapped.load_state_dict(theirs.state_dict())
    for key, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], tensor)
    for tensor in wrapped.parameters():
        torch.nn.init.normal_(tensor)
    theirs.load_state_dict(wrapped.state_dict())
    for key, tensor in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[key], tensor)


def test_a_decoder_layers_two_gradients_reach_pytorch():
    layer = TransformerDecoderLayer(8, 2, **OPTIONS)
    twin = torch.nn.TransformerDecoderLayer(8, 2, **OPTIONS)
    twin.load_state_dict(layer.state_dict())
    tgt, memory = (torch.randn(2, n, 8, dtype=torch.float64, requires_grad=True) for n in (4, 3))
    dz = torch.randn(2, 4, 8, dtype=torch.float64)
    mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
    found, expected = (
        torch.autograd.grad(module(tgt, memory, tgt_mask=mask), [tgt, memory], dz) for module in (as_torch(layer), twin)
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["attn_mask", "key_padding_mask"])
def test_a_mask_that_requires_a_gradient_is_named(name):
    module = as_torch(MultiheadAttention(6, 2))
    x = torch.randn(4, 2, 6)
    mask = torch.zeros((4, 4) if name == "attn_mask" else (2, 4), requires_grad=True)
    with pytest.raises(TypeError, match=rf"the argument {name} of MultiheadAttention\(.* requires a gradient"):
        module(x, x, x, **{name: mask})[0].sum().backward()


def test_the_parts_of_an_encoder_layer_are_named_as_the_twins_are():
    layer = TransformerEncoderLayer(8, 2, **OPTIONS)
    module, twin = as_torch(layer), torch.nn.TransformerEncoderLayer(8, 2, **OPTIONS)
    theirs = {name for name, _ in twin.named_modules()}
    assert theirs <= {name for name, _ in module.named_modules()}
    module.self_attn.eval()
    assert not layer.self_attn.training
    assert layer.linear1.training
    with pytest.raises(TypeError, match="would never run"):
        module.self_attn.out_proj.register_forward_hook(print)
