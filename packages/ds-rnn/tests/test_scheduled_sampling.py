"""A decoder that is given some of its own tokens, held against one of torch's parts that runs token by token.

How the share of the others falls: test_teacher_forcing.py.
"""

import copy
import math

import pytest
import torch
from ds_core import AdamW, Recompute, TokenCrossEntropy, no_record, primitives_only, record
from ds_core.engine.recompute import tape
from ds_core.interop import as_torch
from ds_core.testing import check_layer, one_graph
from ds_core.text.decoding.greedy import greedy
from ds_rnn.seq2seq.seq2seq_rnn import ATTENTIONS
from seq2seq_twins import (
    BEGIN,
    PAD,
    Seq2SeqOfTorch,
    gradients,
    sharper,
    some_model,
    some_pairs,
    some_tokens,
    weights_for_torch,
)

END = 2
KINDS = pytest.mark.parametrize("attention", ATTENTIONS)
CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])


def some_writer(share, **changes):
    """A model whose predictions differ from place to place, and the share of true tokens that it is given."""
    model = sharper(some_model(**changes))
    model.teacher_forcing = share
    return model


def given_tokens(model, source, target):
    """What the decoder is given, and which tokens were drawn to be true."""
    draws = []
    with no_record(), tape(draws):
        given = model._given(target, *model._encode(source))
    return given, draws


def token_by_token(theirs, source, target, true):
    """Logits of a decoder that is given its own tokens as it goes, every step a run over all before; and the tokens."""
    tokens, logits = target[:, :1], []
    for t in range(target.shape[1]):
        logits.append(theirs(source, tokens)[:, -1])
        if t + 1 < target.shape[1]:
            own = logits[-1].detach().clone()
            own[:, PAD] = -math.inf
            following = torch.where(true[:, t + 1], target[:, t + 1], own.argmax(1))
            following[target[:, t + 1] == PAD] = PAD
            tokens = torch.cat([tokens, following[:, None]], 1)
    return torch.stack(logits, 1), tokens


@KINDS
@CELLS
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_against_torch_token_by_token(attention, cell, share):
    """The tokens chosen, the logits, and every gradient."""
    ours = some_writer(share, attention=attention, cell=cell)
    theirs = Seq2SeqOfTorch(ours.config).double()
    theirs.load_state_dict(weights_for_torch(ours.state_dict()))
    source, target = some_pairs()
    torch.manual_seed(1)
    chosen, (true,) = given_tokens(ours, source, target)
    assert true.any() == (share > 0)
    expected, tokens = token_by_token(theirs, source, target, true)
    assert torch.equal(chosen, tokens)
    assert (chosen != target).any()
    dlogits = torch.randn_like(expected)
    expected.backward(dlogits)
    torch.manual_seed(1)
    logits, found = gradients(ours, source, target, dlogits)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-10, atol=1e-11)
    for name, gradient in weights_for_torch(found).items():
        of_torch = theirs.get_parameter(name).grad
        torch.testing.assert_close(gradient, of_torch, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@KINDS
@CELLS
def test_at_share_1_nothing_else_happens(attention, cell):
    """By default and when set: no random number, no operation more than in evaluation, the same results."""
    plain = some_model(attention=attention, cell=cell)
    source, target = some_pairs()
    dlogits = torch.randn(3, 6, 11, dtype=torch.float64)
    with primitives_only() as ops, no_record():
        plain.eval()(source, target)
    expected, of_plain = gradients(plain.train(), source, target, dlogits)
    model = some_model(attention=attention, cell=cell)
    assert model.teacher_forcing == 1
    for share in (None, 0.3, 1):
        if share is not None:
            model.teacher_forcing = share
        if share == 0.3:
            continue
        before, draws = torch.get_rng_state(), []
        with tape(draws), primitives_only() as others, no_record():
            model(source, target)
        assert dict(others) == dict(ops)
        logits, found = gradients(model, source, target, dlogits)
        assert torch.equal(logits, expected)
        assert all(torch.equal(found[name], of_plain[name]) for name in found)
        assert draws == []
        assert torch.equal(torch.get_rng_state(), before)


@KINDS
def test_in_evaluation_it_is_always_forced(attention):
    model, (source, target) = some_writer(0.0, attention=attention), some_pairs()
    forced = sharper(some_model(attention=attention))
    before = torch.get_rng_state()
    with no_record():
        assert torch.equal(model.eval()(source, target), forced(source, target))
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(model.train()(source, target), forced(source, target))


@KINDS
@CELLS
def test_at_share_0_it_is_given_what_a_search_writes(attention, cell):
    """Without dropout, as `greedy` does, although its readouts are then made with it."""
    model = some_writer(0.0, attention=attention, cell=cell, dropout=0.5)
    source, _ = some_tokens()
    target = torch.full((3, 8), 7)
    target[:, 0] = BEGIN
    draws = []
    with no_record(), tape(draws):
        state, memory = model.eval()._encode(source)
        given = model.train()._given(target, state, memory)
    assert len(draws) == 1
    assert all(module.training for module in model.modules())
    found = greedy(model, source, begin=BEGIN, end=END, max_length=7, pad=PAD)
    for row, tokens in zip(given.tolist(), found, strict=True):
        assert row[: len(tokens) + 1] == [BEGIN, *tokens]
    assert len({tuple(tokens) for tokens in found}) > 1


def test_what_stays():
    """The first token, padding, and what was given; nothing becomes padding, however likely."""
    model, (source, target) = some_writer(0.0), some_pairs()
    model.projection = None
    model.target_tokens.weight.data[PAD] = 100 * model.target_tokens.weight.data[3]
    kept = target.clone()
    given, _ = given_tokens(model, source, target)
    assert torch.equal(target, kept)
    assert torch.equal(given[:, 0], target[:, 0])
    assert torch.equal(given == PAD, target == PAD)
    one, _ = given_tokens(model, source, target[:, :1])
    assert torch.equal(one, target[:, :1])


def test_each_token_is_drawn_by_itself():
    """The share of 5,000 tokens that are true, in every sentence and at every place."""
    model, generator = some_writer(0.3), torch.Generator().manual_seed(0)
    source, target = (torch.randint(1, 11, (100, size), generator=generator) for size in (2, 50))
    torch.manual_seed(0)
    given, (true,) = given_tokens(model, source, target)
    assert float(true.double().mean()) == pytest.approx(0.3, abs=0.04)
    assert bool(true.any(0).all() & true.any(1).all() & ~true.all(0).any() & ~true.all(1).any())
    assert torch.equal(given[true], target[true])


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "luong", "cell": "lstm"},
        {"attention": "bahdanau", "cell": "gru", "shared": False, "tied": False},
        {"attention": "none", "cell": "gru", "num_layers": 1, "tied": False},
    ],
    ids=str,
)
def test_gradients(changes):
    """All checks of a layer; the choice has no gradient, and finite differences do not change it."""
    source, target = some_tokens(source=3, target=3)
    model = some_model(dropout=0.3, **changes)
    model.teacher_forcing = 0.4
    check_layer(model, source, target, samples=1)


@KINDS
def test_as_torch(attention):
    model, (source, target) = some_writer(0.5, attention=attention), some_pairs()
    found = []
    for one in (model, as_torch(model)):
        torch.manual_seed(2)
        loss = torch.sin(one(source, target)).sum()
        found.append(torch.autograd.grad(loss, list(one.parameters())))
    for given, expected in zip(*found, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-10, atol=1e-11)


def test_the_draw_is_replayed():
    """A forward that runs twice to save memory is given the same tokens both times."""
    source, target = some_pairs()
    dlogits, found = torch.randn(3, 6, 11, dtype=torch.float64), []
    for wrap in (lambda model: model, Recompute):
        model = some_writer(0.5, dropout=0.3)
        torch.manual_seed(3)
        with record():
            layer = wrap(model)
            layer.forward(source, target)
            layer.backward(dlogits)
        found.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_share_is_no_part_of_the_weights():
    model, other = some_writer(0.5), some_model()
    assert set(model.state_dict()) == set(other.state_dict())
    other.load_state_dict(model.state_dict())
    assert other.teacher_forcing == 1
    assert copy.deepcopy(model).teacher_forcing == 0.5


def test_the_share_goes_along():
    """To another dtype, and by way of the meta device, as every buffer."""
    model, (source, target) = some_writer(0.5).bfloat16(), some_pairs()
    logits, _ = gradients(model, source, target, torch.ones(3, 6, 11, dtype=torch.bfloat16))
    assert logits.dtype == torch.bfloat16
    model.to("meta")
    assert {tensor.device.type for tensor in model.buffers()} == {"meta"}


def test_a_compiled_choice_goes_on_with_another_share():
    """No graph of its own for each share below 1, because it is a tensor that is filled in place."""
    model, (source, target) = some_writer(0.9, num_layers=1, cell="gru", attention="none"), some_pairs(2)
    with no_record():
        state, memory = model._encode(source)

    def choose(target):
        with torch.no_grad():
            return model._given(target, state, memory)

    # two graphs: while the first one is traced, switching layers between modes notes a name in each of them
    compiled, found = one_graph(choose, graphs=2, backend="eager"), []
    for share in (0.9, 0.7, 0.5, 0.0):
        model.teacher_forcing = share
        torch.manual_seed(4)
        found.append(compiled(target))
        torch.manual_seed(4)
        assert torch.equal(found[-1], choose(target))
    assert not torch.equal(found[0], found[-1])


@KINDS
def test_it_learns(attention):
    """Three sentences by heart while the share falls from 1 to 0; then a search writes them."""
    model, (source, _) = some_model(attention=attention, num_layers=1, embed_dim=16, hidden_size=16), some_tokens()
    target = torch.tensor([[BEGIN, 3, 4, 3, 5, END], [BEGIN, 6, 6, END, PAD, PAD], [BEGIN, 7, 8, 9, 10, END]])
    optimizer, criterion = AdamW(model.parameters(), lr=1e-2), TokenCrossEntropy(ignore_index=PAD)
    torch.manual_seed(0)
    for step in range(100):
        model.teacher_forcing = 1 - step / 100
        with record():
            criterion(model(source, target[:, :-1]), target[:, 1:])
            model.backward(criterion.backward())
        optimizer.step()
        optimizer.zero_grad()
    found = greedy(model, source, begin=BEGIN, end=END, max_length=6, pad=PAD)
    assert found == [[3, 4, 3, 5], [6, 6], [7, 8, 9, 10]]


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, "a"])
def test_what_is_no_share(share):
    with pytest.raises(ValueError, match=r"Seq2SeqRNN: given teacher_forcing=.*, expected a share, 0 \.\.\. 1"):
        some_model().teacher_forcing = share
