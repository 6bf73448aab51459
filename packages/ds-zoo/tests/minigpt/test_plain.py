"""MiniGPT on the plain pairs: the equations of the pages give the loss and the gradients of the fast forms."""

import pytest
import torch
from ds_core import plain, record
from ds_zoo import MiniGPT, MiniGPTConfig, TokenCrossEntropy

NAMES = ("vocab_size", "block_size", "num_layers", "num_heads", "embed_dim")


def loss_and_gradients(model, tokens, targets, engine):
    criterion = TokenCrossEntropy()
    model.zero_grad()
    torch.manual_seed(0)  # for dropout
    if engine == "handwritten":
        with record():
            loss = criterion(model(tokens), targets)
            model.backward(criterion.backward())
    else:
        loss = criterion(model(tokens), targets)
        loss.backward()
    found = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
    return {"loss": loss.detach(), **found}


@pytest.mark.parametrize("engine", ["handwritten", "autograd"])
@pytest.mark.parametrize("options", [{}, {"bias": False, "dropout": 0.3}])
@pytest.mark.parametrize(("implementation", "tokens"), [("vectorized", 6), ("tiled", 70)])  # 70: two tiles
def test_loss_and_every_gradient_equal_the_fast_forms(implementation, tokens, options, engine):
    sizes = dict(zip(NAMES, (11, tokens, 2, 2, 8), strict=True))
    config = MiniGPTConfig(**sizes, **{"dropout": 0.0, **options})
    generator = torch.Generator().manual_seed(0)
    model = MiniGPT(config, implementation=implementation, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        for tensor in model.parameters():  # weights of ordinary size, so that every nonlinearity is felt
            tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype), alpha=0.2)
    drawn = torch.randint(11, (3, tokens + 1), generator=generator)
    expected = loss_and_gradients(model, drawn[:, :-1], drawn[:, 1:], engine)
    with plain():
        found = loss_and_gradients(model, drawn[:, :-1], drawn[:, 1:], engine)
    assert found.keys() == expected.keys() == {"loss", *(name for name, _ in model.named_parameters())}
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_the_plain_forms_are_what_runs(monkeypatch):
    """A fault in a fast form that nothing plain calls: only outside of `with plain():` it is seen."""
    from ds_core.layers import layer_norm

    ran = []
    monkeypatch.setattr(layer_norm, "widened", lambda x: ran.append(x) or x)
    model = MiniGPT(MiniGPTConfig(11, 6, 1, 2, 8, dropout=0.0))
    tokens = torch.arange(6)[None]
    with plain():
        loss_and_gradients(model, tokens, tokens, "handwritten")
    assert not ran
    loss_and_gradients(model, tokens, tokens, "handwritten")
    assert ran


def test_check_on_plain_forms(ds):
    status, printed, _ = ds("check", "minigpt", "--plain")
    assert status == 0
    assert "ok: all gradients agree" in printed
