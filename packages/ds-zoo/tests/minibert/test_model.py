import copy

import pytest
import torch
from ds_core import AdamW, Recompute, ShapeError, TraceError, no_record, record, whole_step
from ds_core.testing import check_layer, one_graph
from ds_zoo import MiniBERT, MiniBERTConfig, MiniBERTForMaskedLM, MiniBERTForPreTraining
from ds_zoo.minibert.masking import IGNORED
from ds_zoo.minibert.model import Pooler

TINY = {"vocab_size": 11, "max_length": 6, "num_layers": 2, "num_heads": 2, "embed_dim": 8, "hidden_dim": 12}


def make(kind=MiniBERT, dtype=torch.float64, **options):
    sizes = {**TINY, "dropout": 0.0, "attention_dropout": 0.0, **options}
    return kind(MiniBERTConfig(**sizes), dtype=dtype, generator=torch.Generator().manual_seed(0))


def batch(kind=MiniBERTForMaskedLM):
    draw = torch.Generator().manual_seed(1)
    ids, labels = torch.randint(11, (2, 3, 6), generator=draw)
    labels[:, ::2] = IGNORED
    if kind is MiniBERTForPreTraining:
        return (ids, (ids != 0).long()), (labels, torch.tensor([0, 1, 1]))
    return (ids, None, None), labels


def test_worked_example():
    pooler = Pooler(2, dtype=torch.float64)
    pooler.load_state_dict({"dense.weight": torch.tensor([[1.0, 0.0], [1.0, 1.0]]), "dense.bias": torch.zeros(2)})
    hidden = torch.tensor([[[0.5, -1.0], [2.0, 3.0]]], dtype=torch.float64)
    with record():
        p = pooler(hidden)
        dhidden = pooler.backward(torch.tensor([[1.0, 2.0]]).double())

    def close(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected).double(), atol=5.1e-5, rtol=0)

    close(p, [[0.4621, -0.4621]])
    close(1 - p * p, [[0.7864, 0.7864]])
    close((1 - p * p) * torch.tensor([1.0, 2.0]), [[0.7864, 1.5729]])
    close(dhidden, [[[2.3593, 1.5729], [0.0, 0.0]]])
    given = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]]).double()
    close(dhidden + given, [[[2.4593, 1.7729], [0.3, 0.4]]])


def test_gradients_of_the_pooler():
    check_layer(Pooler(4), torch.randn(3, 5, 4))


def test_initial_weights():
    model = make(vocab_size=500, embed_dim=64, hidden_dim=100, pad_token_id=2, initializer_range=0.05)
    for name, tensor in model.named_parameters():
        if tensor.dim() == 2 and tensor.numel() > 1000:
            assert float(tensor.std()) == pytest.approx(0.05, rel=0.05), name
        elif tensor.dim() == 1:
            assert tensor.tolist() == [float("norm" in name and name.endswith("weight"))] * len(tensor), name
    assert not model.embeddings.tokens.weight[2].any()


def test_the_same_generator_draws_the_same_weights():
    assert all(torch.equal(a, b) for a, b in zip(make().parameters(), make().parameters(), strict=True))


@pytest.mark.parametrize("kind", [MiniBERTForMaskedLM, MiniBERTForPreTraining])
def test_a_whole_training_step_compiled_equals_eager(kind):
    model = make(kind, num_layers=1)
    twin = copy.deepcopy(model)

    def step_of(own):
        optimizer = AdamW(own.parameters(), lr=1e-2)
        optimizer.prepare_compile()
        return whole_step(own, own.criterion(), optimizer, clip_norm=0.5)

    compiled, eager = one_graph(step_of(model)), step_of(twin)
    for _ in range(2):
        torch.testing.assert_close(compiled([batch(kind)]), eager([batch(kind)]), rtol=1e-11, atol=1e-13)


def test_recomputed_blocks_give_the_same_gradients():
    model = make(MiniBERTForMaskedLM, dropout=0.2, attention_dropout=0.2)
    frugal = copy.deepcopy(model)
    frugal.bert.blocks = [Recompute(block) for block in frugal.bert.blocks]
    inputs, labels = batch()
    for each in (model, frugal):
        torch.manual_seed(0)
        criterion = each.criterion()
        with record():
            criterion(each(*inputs), labels)
            each.backward(criterion.backward())
    for ours, theirs in zip(model.parameters(), frugal.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_dropout_gradients_equal_autograd():
    model = make(MiniBERTForPreTraining, dropout=0.3, attention_dropout=0.2)
    inputs, labels = batch(MiniBERTForPreTraining)
    criterion = model.criterion()
    torch.manual_seed(5)
    with record():
        criterion(model(*inputs), labels)
        model.backward(criterion.backward())
    ours = {name: tensor.grad.clone() for name, tensor in model.named_parameters()}
    model.zero_grad()
    torch.manual_seed(5)
    model.criterion()(model(*inputs), labels).backward()
    for name, tensor in model.named_parameters():
        torch.testing.assert_close(ours[name], tensor.grad, rtol=1e-9, atol=1e-12)


def test_bfloat16_runs_and_stays_close():
    model = make(MiniBERTForMaskedLM, dtype=torch.float32)
    inputs, labels = batch()

    def step():
        criterion = model.criterion()
        with record():
            loss = criterion(model(*inputs), labels)
            model.backward(criterion.backward())
        return float(loss)

    expected = step()
    model.zero_grad()
    model.bfloat16()
    assert step() == pytest.approx(expected, rel=0.02)
    assert all(tensor.grad.dtype == torch.bfloat16 for tensor in model.parameters())


def test_the_faster_attention_is_chosen_by_length():
    assert make(max_length=128).blocks[0].attention.implementation == "vectorized"
    assert make(max_length=129).blocks[0].attention.implementation == "tiled"


def test_bert_without_a_head_has_no_loss():
    with pytest.raises(TypeError, match=r"no loss of its own.*MiniBERTForMaskedLM"):
        make().criterion()


def test_a_mask_that_does_not_fit():
    with pytest.raises(ShapeError, match=r"attention_mask of shape \(2, 5\) beside input_ids of \(2, 6\)"):
        make()(torch.zeros(2, 6).long(), torch.ones(2, 5))


def test_padding_changes_nothing_for_the_others():
    model, ids = make(), torch.tensor([[4, 5, 6]])
    padded = torch.tensor([[4, 5, 6, 9, 9]])
    with no_record():
        alone = model(ids)
        beside = model(padded, torch.tensor([[1, 1, 1, 0, 0]]))
    torch.testing.assert_close(beside.last_hidden_state[:, :3], alone.last_hidden_state)
    torch.testing.assert_close(beside.pooler_output, alone.pooler_output)


def test_backward_outside_record_says_how():
    with pytest.raises(TraceError, match="outside record"):
        make().backward(None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_heads": 3}, ValueError, "3 heads do not divide an embed_dim of 8"),
        ({"num_layers": 0}, ValueError, "num_layers=0, expected 1 or more"),
        ({"vocab_size": 2.5}, TypeError, "vocab_size=2.5, expected a whole number"),
        ({"dropout": 1.5}, ValueError, "dropout=1.5, expected a probability"),
        ({"classifier_dropout": -1}, ValueError, "classifier_dropout=-1, expected a probability"),
        ({"epsilon": 0.0}, ValueError, "epsilon is 0.0, expected a positive number"),
        ({"initializer_range": -1.0}, ValueError, "initializer_range is -1.0"),
        ({"pad_token_id": 11}, ValueError, "pad_token_id is 11, expected one of the 11 tokens"),
    ],
)
def test_sizes_that_make_no_model(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)
