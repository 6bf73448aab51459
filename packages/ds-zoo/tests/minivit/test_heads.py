import pytest
import torch
from ds_core import ClassifierOutput, record
from ds_core.testing import check_layer, check_loss
from ds_zoo import MiniViT, MiniViTConfig, MiniViTForImageClassification
from ds_zoo.minivit import Labels, MiniViTOutput
from vit_twins import SMALL, small_classifier


@pytest.mark.parametrize(
    ("pooling", "logits", "dhidden"),
    [
        ("token", [[2, 3.25]], [[1.5, -0.5], [0, 0], [0, 0], [0, 0], [0, 0]]),
        ("mean", [[0.75, -1.75]], [[0, 0], *[[0.375, -0.125]] * 4]),
    ],
)
def test_worked_example(pooling, logits, dhidden, monkeypatch):
    config = MiniViTConfig(2, 1, num_channels=1, num_layers=1, num_heads=1, embed_dim=2, hidden_dim=1)
    model = MiniViTForImageClassification(config, pooling=pooling, dtype=torch.float64)
    with torch.no_grad():
        model.classifier.weight.copy_(torch.tensor([[1, 0.5], [-1, 2]]))
        model.classifier.bias.copy_(torch.tensor([0, 0.25]))
    hidden = torch.tensor([[[1.0, 2], [1, 0], [0, 1], [2, 1], [1, -4]]], dtype=torch.float64)
    given = []
    monkeypatch.setattr(model.vit, "forward", lambda *_: MiniViTOutput(hidden))
    monkeypatch.setattr(model.vit, "backward", lambda gradients, **_: given.append(gradients.last_hidden_state))
    with record():
        assert model(torch.zeros(1, 1, 2, 2)).logits.tolist() == logits
        model.backward(ClassifierOutput(torch.tensor([[1, -0.5]], dtype=torch.float64)))
    assert given[0].tolist() == [dhidden]
    # du = dz W: the first row of dh, or four times one of the others
    assert given[0].sum(1).tolist() == [[1.5, -0.5]]


@pytest.mark.parametrize("pooling", ["token", "mean"])
@pytest.mark.parametrize("count", [1, 3])
def test_gradients(pooling, count):
    check_layer(small_classifier(Labels.numbered(count), pooling), torch.randn(3, 2, 7, 7))


@pytest.mark.parametrize("pooling", ["token", "mean"])
def test_gradients_at_another_size(pooling):
    check_layer(small_classifier(None, pooling), torch.randn(2, 2, 10, 5), kwargs={"interpolate_pos_encoding": True})


@pytest.mark.parametrize("pooling", ["token", "mean"])
def test_no_gradient_of_the_logits(pooling):
    for gradients in (None, ClassifierOutput()):
        model = small_classifier(None, pooling)
        with record() as trace:
            model(torch.randn(1, 2, 7, 7, dtype=torch.float64))
            model.backward(gradients)
            assert len(trace) == 0
        assert all(tensor.grad is None for tensor in model.parameters())


def test_a_frozen_body_gets_no_gradient():
    model = small_classifier()
    model.vit.requires_grad_(False)
    with record():
        output = model(torch.randn(2, 2, 7, 7, dtype=torch.float64))
        model.backward(ClassifierOutput(torch.ones_like(output.logits)), input_gradient=False)
    assert {name for name, tensor in model.named_parameters() if tensor.grad is not None} == {
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        (Labels.numbered(3), torch.tensor([0, 2, -100])),
        (Labels.numbered(1), torch.randn(3)),
        (Labels.numbered(3, "regression"), torch.randn(3, 3)),
        (Labels.numbered(3), torch.rand(3, 3).round()),
    ],
)
def test_the_criterion_is_that_of_the_labels(labels, targets):
    model = small_classifier(labels)
    assert model.criterion().problem_type == labels.problem_type
    logits = torch.randn(3, len(labels.names), dtype=torch.float64)
    check_loss(
        model.criterion(), ClassifierOutput(logits), targets.double() if targets.is_floating_point() else targets
    )


def test_impossible_parts():
    with pytest.raises(ValueError, match="pooling='max'"):
        MiniViTForImageClassification(SMALL, pooling="max")
    with pytest.raises(ValueError, match="same config and no pooler"):
        MiniViTForImageClassification(SMALL, vit=MiniViT(SMALL))
    other = MiniViTConfig(7, 3, num_channels=2, num_layers=1, num_heads=2, embed_dim=8, hidden_dim=9)
    with pytest.raises(ValueError, match="same config and no pooler"):
        MiniViTForImageClassification(SMALL, vit=MiniViT(other, pooler=False))
