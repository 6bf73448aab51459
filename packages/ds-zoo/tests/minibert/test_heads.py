import pytest
import torch
from ds_core import Dropout, no_record, record
from ds_core.activations.softmax import softmax
from ds_core.training.pretrained_labels import Labels
from ds_zoo import (
    MiniBERTConfig,
    MiniBERTForMaskedLM,
    MiniBERTForPreTraining,
    MiniBERTForSequenceClassification,
    MiniBERTForTokenClassification,
)

KINDS = [
    MiniBERTForMaskedLM,
    MiniBERTForPreTraining,
    MiniBERTForSequenceClassification,
    MiniBERTForTokenClassification,
]
TINY = MiniBERTConfig(9, 6, 1, 2, 8, 12, dropout=0.0, attention_dropout=0.0)


def test_worked_example():
    config = MiniBERTConfig(2, 3, 1, 1, 2, 2, epsilon=0.75, pad_token_id=None)
    model = MiniBERTForMaskedLM(config, dtype=torch.float64)
    with torch.no_grad():
        model.transform.dense.weight.copy_(torch.eye(2))
        model.bias.copy_(torch.tensor([0.1, 0.0]))
        model.bert.embeddings.tokens.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    hidden = torch.tensor([[[1.0, -1.0]]], dtype=torch.float64)
    seen = []
    inner = model.transform.backward
    model.transform.backward = lambda dy, **options: (seen.append(dy.clone()), inner(dy, **options))[1]
    with record():
        z = model._predict(hidden)
        p = softmax(z, -1)
        model._predict_backward(p - torch.tensor([0.0, 1.0]))

    def close(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected).double(), atol=5.1e-5, rtol=0)

    activated = torch.nn.functional.gelu(hidden)
    close(activated, [[[0.8413, -0.1587]]])
    close(activated.mean(), 0.3413)
    close(activated.var(correction=0), 0.25)
    with no_record():
        close(model.transform(hidden), [[[0.5, -0.5]]])
    close(z, [[[0.6, -1.0]]])
    close(p, [[[0.8320, 0.1680]]])
    close(-p[0, 0, 1].log(), 1.7839)
    close(seen[0], [[[0.8320, -1.6640]]])
    close(model.bias.grad, [0.8320, -0.8320])
    close(model.bert.embeddings.tokens.weight.grad, [[0.4160, -0.4160], [-0.4160, 0.4160]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_body_gets_no_gradient_and_the_head_the_same(kind):
    model = kind(TINY, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    found = []
    for frozen in (False, True):
        model.zero_grad()
        model.bert.requires_grad_(not frozen)
        torch.manual_seed(0)
        with record():
            output = model(ids)
            drawn = {name: torch.randn_like(tensor) for name, tensor in vars(output).items()}
            model.backward(type(output)(**drawn))
        found.append({name: tensor.grad for name, tensor in model.named_parameters()})
    for name, gradient in found[1].items():
        if name.startswith("bert."):
            assert gradient is None
            assert found[0][name] is not None
        else:
            assert torch.equal(gradient, found[0][name])


def test_the_decoder_is_the_embedding():
    model = MiniBERTForMaskedLM(TINY)
    names = [name for name, _ in model.named_parameters()]
    assert not any("decoder" in name for name in names)
    assert sum(tensor.shape == (9, 8) for tensor in model.parameters()) == 1


@pytest.mark.parametrize("kind", [MiniBERTForSequenceClassification, MiniBERTForTokenClassification])
def test_dropout_of_the_classifier(kind):
    assert [kind(MiniBERTConfig(9, 6, 1, 2, 8, 12, dropout=0.3)).dropout.p] == [0.3]
    model = kind(MiniBERTConfig(9, 6, 1, 2, 8, 12, dropout=0.0, attention_dropout=0.0, classifier_dropout=1.0))
    assert isinstance(model.dropout, Dropout)
    with no_record():
        assert not model(torch.tensor([[1, 2]])).logits.any()  # all is dropped, and the bias is 0
        assert model.eval()(torch.tensor([[1, 2]])).logits.any()


def test_labels_by_number_or_by_name():
    assert MiniBERTForSequenceClassification(TINY, 3).labels.names == ("LABEL_0", "LABEL_1", "LABEL_2")
    named = MiniBERTForTokenClassification(TINY, labels=Labels(("noun", "verb", "other", "none")))
    assert named.classifier.out_features == 4
    assert MiniBERTForSequenceClassification(TINY, 3).criterion().num_labels == 3
