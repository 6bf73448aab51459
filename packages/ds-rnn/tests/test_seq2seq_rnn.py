"""The recurrent encoder-decoder, held against the same of torch.nn's parts. Searches: test_seq2seq_decoding.py."""

import dataclasses

import pytest
import torch
from ds_core import AdamW, ShapeError, TokenCrossEntropy, no_record, record
from ds_core.interop import as_torch
from ds_core.testing import check_layer, pairwise
from ds_rnn import Seq2SeqRNN, Seq2SeqRNNConfig
from ds_rnn.seq2seq.seq2seq_rnn import ATTENTIONS
from seq2seq_twins import PAD, TINY, Seq2SeqOfTorch, gradients, some_model, some_tokens, weights_for_torch
from torch._dynamo.exc import TorchDynamoException

KINDS = pytest.mark.parametrize("attention", ATTENTIONS)
GRID = pairwise(
    {
        "attention": list(ATTENTIONS),
        "cell": ["lstm", "gru"],
        "num_layers": [1, 2],
        "shared": [True, False],
        "tied": [True, False],
    }
)


@pytest.mark.parametrize("changes", GRID, ids=str)
def test_against_torch(changes):
    """Logits and every gradient."""
    ours = some_model(**changes, target_vocab=11 if changes["shared"] else 9)
    theirs = Seq2SeqOfTorch(ours.config).double()
    theirs.load_state_dict(weights_for_torch(ours.state_dict()))
    source, target = some_tokens(vocab=9)
    expected = theirs(source, target)
    dlogits = torch.randn_like(expected)
    expected.backward(dlogits)
    logits, found = gradients(ours, source, target, dlogits)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-11, atol=1e-12)
    found = weights_for_torch(found)
    of_torch = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert set(found) == set(of_torch)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, of_torch[name], rtol=1e-10, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


@KINDS
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_ten_steps_like_torch(attention, cell):
    ours = some_model(attention=attention, cell=cell)
    theirs = Seq2SeqOfTorch(ours.config).double()
    theirs.load_state_dict(weights_for_torch(ours.state_dict()))
    source, target = some_tokens()
    following = target.roll(-1, 1)
    following[0, 2:] = PAD
    settings = {"lr": 1e-2, "weight_decay": 0.1, "eps": 1e-6}
    optimizer, other = AdamW(ours.parameters(), **settings), torch.optim.AdamW(theirs.parameters(), **settings)
    criterion = TokenCrossEntropy(ignore_index=PAD, label_smoothing=0.1)
    for _ in range(10):
        with record():
            loss = criterion(ours(source, target), following)
            ours.backward(criterion.backward())
        optimizer.step()
        optimizer.zero_grad()
        logits = theirs(source, target).flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, following.flatten(), ignore_index=PAD, label_smoothing=0.1)
        expected.backward()
        other.step()
        other.zero_grad()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=0)
    found = weights_for_torch(ours.state_dict())
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "luong", "cell": "lstm", "num_layers": 2},
        {"attention": "bahdanau", "cell": "gru", "num_layers": 2, "shared": False, "tied": False},
        {"attention": "none", "cell": "lstm", "num_layers": 1, "tied": False},
    ],
    ids=str,
)
def test_gradients(changes):
    """All checks of a layer, with dropout on embeddings, between layers and on readouts."""
    source, target = some_tokens(source=3, target=2)
    check_layer(some_model(dropout=0.3, **changes), source, target, samples=1)


@KINDS
def test_padding_changes_nothing(attention):
    """Neither more of it nor other sentences beside: logits, and the gradients of all weights."""
    model, (source, target) = some_model(attention=attention), some_tokens()
    dlogits = torch.randn(3, 4, 11, dtype=torch.float64)
    logits, found = gradients(model, source, target, dlogits)
    wider = torch.cat([source, torch.full((3, 4), PAD)], 1)
    more, others = gradients(model, wider, target, dlogits)
    torch.testing.assert_close(more, logits, rtol=1e-12, atol=1e-12)
    for name, gradient in found.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-11, atol=1e-12)
    with no_record():
        alone = model(source[1:2, :3], target[1:2])
    torch.testing.assert_close(alone, logits[1:2], rtol=1e-12, atol=1e-12)


@KINDS
def test_the_decoder_sees_no_token_to_come(attention):
    model, (source, target) = some_model(attention=attention), some_tokens()
    changed = target.clone()
    changed[:, 2:] = 7
    with no_record():
        one, other = model(source, target), model(source, changed)
    assert torch.equal(one[:, :2], other[:, :2])
    assert not torch.equal(one[:, 2:], other[:, 2:])


def test_what_attention_is_for():
    """Without it, the readouts depend on the source through the first state alone; with it, also past that."""
    source, target = some_tokens()
    for attention in ATTENTIONS:
        model = some_model(attention=attention)
        for bridge in model.bridges:
            bridge.weight.data.zero_()
        with no_record():
            differ = not torch.equal(model(source, target), model(source.flip(0), target))
        assert differ is (attention != "none")


def test_same_seed_same_weights_and_same_dropout():
    one, other = (some_model(dropout=0.5) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    found = []
    for model in (one, other):
        torch.manual_seed(3)
        found.append(model(*some_tokens()).detach())
    assert torch.equal(*found)
    assert not torch.equal(found[0], one(*some_tokens()).detach())
    assert torch.equal(one.eval()(*some_tokens()).detach(), some_model()(*some_tokens()).detach())


@pytest.mark.parametrize("changes", GRID[:4], ids=str)
def test_weights_saved_and_loaded(changes, tmp_path):
    one, other = (some_model(seed=seed, **changes) for seed in (0, 1))
    torch.save(one.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert torch.equal(one(*some_tokens()), other(*some_tokens()))


def test_one_matrix_for_both_languages_and_the_output():
    model = some_model()
    assert model.source_tokens is model.target_tokens
    assert model.projection is None
    source, target = some_tokens(vocab=5)
    _, found = gradients(model, source, target, torch.ones(3, 4, 11, dtype=torch.float64))
    assert bool((found["source_tokens.weight"][9] != 0).all())  # neither a source nor a target token


@KINDS
def test_as_torch(attention):
    """Its gradients through the bridge, which runs our backward, are those of autograd on the same forward."""
    model, (source, target) = some_model(attention=attention), some_tokens()
    found = []
    for one in (model, as_torch(model)):
        loss = torch.sin(one(source, target)).sum()
        found.append(torch.autograd.grad(loss, list(one.parameters())))
    for given, expected in zip(*found, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-11, atol=1e-12)


@KINDS
def test_memory_grows_with_the_target(attention):
    model, kept = some_model(attention=attention), []
    for steps in (4, 8, 12):
        with record() as trace:
            model(*some_tokens(target=steps))
            kept.append(sum(line.bytes for line in trace.kept()))
            trace.take()
    assert kept[2] - kept[1] == kept[1] - kept[0] > 0


@KINDS
def test_bfloat16(attention):
    model, wide = some_model(torch.bfloat16, attention=attention), some_model(attention=attention)
    wide.load_state_dict(model.state_dict())
    source, target = some_tokens()
    logits, found = gradients(model, source, target, torch.ones(3, 4, 11, dtype=torch.bfloat16))
    assert {tensor.dtype for tensor in (logits, *found.values())} == {torch.bfloat16}
    with no_record():
        torch.testing.assert_close(logits.double(), wide(source, target), rtol=0, atol=0.1)


def test_a_whole_step_is_not_one_graph():
    """How long the sources are is known by looking at them, which a graph cannot: the page says so."""
    model, (source, target) = some_model(num_layers=1), some_tokens(target=2)

    def forward(source, target):
        with torch.no_grad():
            return model(source, target)

    with pytest.raises(TorchDynamoException, match="padding"):
        torch.compile(forward, fullgraph=True, backend="eager")(source, target)


def test_worked_example():
    config = Seq2SeqRNNConfig(3, 3, embed_dim=2, hidden_size=1, num_layers=1, cell="gru", attention="none", dropout=0.0)
    model = Seq2SeqRNN(config, dtype=torch.float64)
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    model.source_tokens.weight.data = weight
    y = torch.tensor([[[0.5, -0.25]]], dtype=torch.float64)
    with record():
        model.save(y)
        dy = model._projection_backward(torch.tensor([[[0.5, -0.75, 0.25]]], dtype=torch.float64))

    def same(found, *expected):
        torch.testing.assert_close(found.flatten(), torch.tensor(expected).double(), rtol=0, atol=6e-5)

    same(y @ weight.t(), 0, 0.5, -0.25)
    same(dy, -0.75, 0.25)
    same(model.target_tokens.weight.grad, 0.25, -0.125, -0.375, 0.1875, 0.125, -0.0625)

    bridge = model.bridges[0]
    bridge.weight.data, bridge.bias.data = torch.tensor([[0.5, 1.0]]).double(), torch.tensor([0.5]).double()
    both = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    with record():
        s = torch.tanh(bridge.forward(both))
        dboth = bridge.backward(2 * (1 - s * s))
    same(s, 0.4621)
    same(dboth, 0.7864, 1.5729)
    same(bridge.weight.grad, 1.5729, -0.7864)
    same(bridge.bias.grad, 1.5729)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 0}, "embed_dim is 0, expected at least 1"),
        ({"source_vocab": 0}, "source_vocab is 0, expected at least 1"),
        ({"num_layers": -1}, "num_layers is -1, expected at least 1"),
        ({"cell": "rnn"}, r"cell is 'rnn', expected one of \('lstm', 'gru'\)"),
        ({"attention": "dot"}, r"attention is 'dot', expected one of \('luong', 'bahdanau', 'none'\)"),
        ({"target_vocab": 9}, "a shared embedding needs one vocabulary"),
        ({"pad": 11}, "pad is 11, expected a token of both vocabularies"),
        ({"pad": -1}, "pad is -1, expected a token of both vocabularies"),
    ],
)
def test_impossible_configurations(changes, message):
    with pytest.raises(ValueError, match=f"Seq2SeqRNNConfig: .*{message}"):
        dataclasses.replace(TINY, **changes)


def test_impossible_dropout():
    with pytest.raises(ValueError, match=r"Dropout: given p=1\.5"):
        some_model(dropout=1.5)


@pytest.mark.parametrize(("source", "target"), [((3, 5), (4,)), ((5,), (3, 4)), ((3, 5), (2, 4)), ((3, 5), (3, 0))])
def test_impossible_shapes(source, target):
    tokens = [torch.ones(shape, dtype=torch.int64) for shape in (source, target)]
    with pytest.raises(ShapeError, match=r"Seq2SeqRNN: given source .* and target .*, expected \(B, S\) and \(B, T\)"):
        some_model()(*tokens)


def test_padding_before_tokens():
    source, target = some_tokens()
    source[0, 1] = PAD
    with pytest.raises(ValueError, match=r"Seq2SeqRNN: given a source with padding \(token 0\) before other tokens"):
        some_model()(source, target)


def test_tokens_outside_the_vocabulary():
    source, target = some_tokens()
    with pytest.raises((IndexError, ValueError), match="11"):
        some_model()(source, target + 11)
