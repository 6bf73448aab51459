import pytest
import torch
from ds_core import SGD, CrossEntropyLoss, Embedding, Linear, record
from ds_core.testing import check_layer, one_graph
from ds_rnn import GRU, LSTM, RNN, SequenceClassifier, SequenceTagger

LENGTHS = [5, 2, 3]


def layers_of(kind, **options):
    return kind(3, 4, 2, batch_first=True, bidirectional=True, dtype=torch.float64, **options)


class Twin(torch.nn.Module):
    """The same network of PyTorch's modules, on packed sequences."""

    def __init__(self, model, kind, tags):
        super().__init__()
        self.tags = tags
        self.layers = getattr(torch.nn, kind.__name__)(3, 4, 2, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(8, 6)
        self.double()
        self.load_state_dict(model.state_dict())

    def forward(self, x, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, last = self.layers(packed)
        if self.tags:
            return self.head(torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0])
        h = last[0] if isinstance(last, tuple) else last
        return self.head(torch.cat([h[-2], h[-1]], 1))


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
@pytest.mark.parametrize("model_class", [SequenceClassifier, SequenceTagger])
def test_logits_and_gradients_equal_those_of_torch(kind, model_class):
    model = model_class(layers_of(kind), 6, dtype=torch.float64)
    twin = Twin(model, kind, model_class is SequenceTagger)
    x = torch.randn(3, 5, 3, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = twin(leaf, LENGTHS)
    dlogits = torch.randn_like(expected)
    expected.backward(dlogits)
    with record():
        logits = model(x, lengths=LENGTHS)
        dx = model.backward(dlogits)
    torch.testing.assert_close(logits, expected.detach())
    torch.testing.assert_close(dx, leaf.grad)
    for (name, tensor), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(tensor.grad, other.grad, msg=name)


@pytest.mark.parametrize("model_class", [SequenceClassifier, SequenceTagger])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_layer(model_class, bidirectional):
    layers = LSTM(2, 3, 2, batch_first=True, bidirectional=bidirectional, proj_size=2)
    check_layer(model_class(layers, 4, dropout=0.3), torch.randn(3, 4, 2))


@pytest.mark.parametrize("model_class", [SequenceClassifier, SequenceTagger])
def test_tokens_go_through_an_embedding(model_class):
    model = model_class(GRU(3, 4, batch_first=True), 5, embedding=Embedding(7, 3))
    tokens = torch.tensor([[1, 2, 3], [4, 5, 0]])
    with record():
        logits = model(tokens, lengths=[3, 2])
        assert model.backward(torch.ones_like(logits)) is None
    gradient = model.embedding.weight.grad
    assert (gradient[[1, 2, 3, 4, 5]].abs().sum(1) > 0).all()
    assert (gradient[[0, 6]] == 0).all()  # a token in the padding has none


def test_padding_changes_nothing():
    model = SequenceClassifier(layers_of(LSTM), 6, dtype=torch.float64)
    x = torch.randn(3, 5, 3, dtype=torch.float64)
    longer = torch.cat([x, torch.full((3, 2, 3), torch.nan, dtype=torch.float64)], 1)
    assert torch.equal(model(x, lengths=LENGTHS), model(longer, lengths=LENGTHS))


def test_one_sequence_without_batch():
    model = SequenceClassifier(layers_of(GRU), 6, dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64)
    with record():
        one = model(x)
        dx = model.backward(torch.ones_like(one))
    assert one.shape == (6,)
    assert dx.shape == x.shape
    torch.testing.assert_close(one, model(x[None])[0].detach())


def test_worked_example():
    # docs/sequence_models.md
    layers = RNN(1, 1, batch_first=True, bidirectional=True)
    model = SequenceClassifier(layers, 1)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[2.0, 3.0]]))
        model.head.bias.fill_(1.0)
    states, found = torch.tensor([[[0.5]], [[-1.0]]]), []
    layers.forward = lambda x, lengths=None: (x, states)
    layers.backward = lambda dy, dh, input_gradient=True: (found.append((dy, dh)), None)
    with record():
        assert model(torch.zeros(1, 2, 1)).tolist() == [[-1.0]]
        model.backward(torch.tensor([[2.0]]))
    ((dy, dh),) = found
    assert dy is None
    assert dh.tolist() == [[[4.0]], [[6.0]]]
    assert model.head.weight.grad.tolist() == [[1.0, -2.0]]


def test_what_is_no_recurrent_layer_is_refused():
    with pytest.raises(TypeError, match="SequenceTagger: given Linear as layers, expected RNN, LSTM or GRU"):
        SequenceTagger(Linear(2, 2), 3)
    with pytest.raises(TypeError, match="SequenceClassifier: given 3, expected a layer"):
        SequenceClassifier(RNN(2, 2), 3, embedding=3)


def test_the_step_is_one_graph():
    model = SequenceClassifier(LSTM(3, 4, batch_first=True), 5)
    criterion, optimizer = CrossEntropyLoss(), SGD(model.parameters(), lr=0.1)
    x, classes = torch.randn(2, 3, 3), torch.tensor([1, 4])

    def step():
        optimizer.zero_grad()
        with record():
            loss = criterion(model(x), classes)
            model.backward(criterion.backward(), input_gradient=False)
        optimizer.step()
        return loss

    one_graph(step)
