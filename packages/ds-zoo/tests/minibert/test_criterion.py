import pytest
import torch
from ds_core import ShapeError, record
from ds_core.losses.denominator import backward_part, denominator_of, forward_part, total
from ds_zoo.minibert import (
    MaskedLMLoss,
    MaskedLMOutput,
    PreTrainingLoss,
    PreTrainingOutput,
    TokenClassificationLoss,
    TokenClassifierOutput,
)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([[1, -100, 4], [-100, -100, 0], [2, 3, -100]])


def close(found, expected, atol=5.1e-5):
    torch.testing.assert_close(found, torch.tensor(expected).double(), atol=atol, rtol=0)


def test_worked_example():
    logits = torch.tensor([[[0.6, -1.0], [3.0, 3.0]]]).double()
    output = PreTrainingOutput(logits, torch.tensor([[0.0, 1.0]]).double())
    criterion = PreTrainingLoss()
    with record():
        loss = criterion(output, torch.tensor([[1, -100]]), torch.tensor([0]))
        gradients = criterion.backward()
    close(criterion.terms["masked_lm_loss"], 1.7839)
    close(criterion.terms["next_sentence_loss"], 1.3133)
    close(loss, 3.0972)
    close(torch.softmax(logits[0, 0], 0), [0.8320, 0.1680])
    close(gradients.prediction_logits, [[[0.8320, -0.8320], [0.0, 0.0]]])
    close(gradients.seq_relationship_logits, [[-0.7311, 0.7311]])


@pytest.mark.parametrize(
    ("kind", "output"), [(MaskedLMLoss, MaskedLMOutput), (TokenClassificationLoss, TokenClassifierOutput)]
)
def test_like_torch(kind, output):
    logits = drawn(3, 3, 5).requires_grad_()
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), LABELS.flatten())
    (2.5 * expected).backward()
    criterion = kind()
    with record():
        loss = criterion(output(logits.detach()), LABELS)
        gradients = criterion.backward(torch.tensor(2.5).double())
    assert isinstance(gradients, output)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradients.logits, logits.grad)


def test_the_sum_of_both_like_torch():
    logits, related = drawn(3, 3, 5).requires_grad_(), drawn(3, 2, seed=1).requires_grad_()
    following = torch.tensor([0, 1, 1])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), LABELS.flatten())
    expected = expected + torch.nn.functional.cross_entropy(related, following)
    (0.5 * expected).backward()
    criterion = PreTrainingLoss()
    for given in ((LABELS, following), ((LABELS, following),)):
        with record():
            loss = criterion(PreTrainingOutput(logits.detach(), related.detach()), *given)
            gradients = criterion.backward(torch.tensor(0.5).double())
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(gradients.prediction_logits, logits.grad)
        torch.testing.assert_close(gradients.seq_relationship_logits, related.grad)


@pytest.mark.parametrize("kind", [MaskedLMLoss, PreTrainingLoss])
def test_two_parts_make_the_whole(kind):
    """Parts with different numbers of labels count as the batch that they make together."""
    logits, related, following = drawn(3, 3, 5), drawn(3, 2, seed=1), torch.tensor([0, 1, 1])
    criterion = kind()

    def part(rows):
        if kind is MaskedLMLoss:
            return MaskedLMOutput(logits[rows]), LABELS[rows]
        return PreTrainingOutput(logits[rows], related[rows]), (LABELS[rows], following[rows])

    whole, target = part(slice(0, 3))
    with record():
        expected = criterion(whole, target)
        criterion.backward()
    parts = [part(slice(0, 1)), part(slice(1, 3))]
    denominator = total([denominator_of(criterion, output, target) for output, target in parts])
    losses, gradients = [], []
    for output, target in parts:
        with record():
            loss = forward_part(criterion, (output,), output, target, denominator)
            gradients.append(backward_part(criterion, None, output, target, denominator, loss))
        losses.append(loss)
    torch.testing.assert_close(sum(losses), expected)
    with record():
        criterion(whole, part(slice(0, 3))[1])
        of_whole = criterion.backward()
    for name, gradient in vars(of_whole).items():
        torch.testing.assert_close(torch.cat([getattr(found, name) for found in gradients]), gradient)


def test_what_is_missing_is_named():
    with pytest.raises(ShapeError, match="MaskedLMLoss: given an output without logits"):
        MaskedLMLoss()(MaskedLMOutput(), LABELS)
    output = PreTrainingOutput(drawn(3, 3, 5), drawn(3, 2))
    with pytest.raises(ShapeError, match="expected an output with prediction_logits"):
        PreTrainingLoss()(output, LABELS)
    with pytest.raises(ShapeError, match="expected an output with prediction_logits"):
        PreTrainingLoss()(PreTrainingOutput(drawn(3, 3, 5)), LABELS, torch.tensor([0, 1, 1]))
    with pytest.raises(ShapeError, match=r"logits \(3, 3, 5\) and targets \(3, 2\)"):
        MaskedLMLoss()(MaskedLMOutput(drawn(3, 3, 5)), LABELS[:, :2])
