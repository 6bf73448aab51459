import pytest
import torch
from ds_core import ShapeError, record
from ds_core.testing import check_layer
from ds_zoo import MiniBERTConfig
from ds_zoo.minibert.embeddings import BertEmbeddings, sum_to


def make(**options):
    sizes = {"vocab_size": 7, "max_length": 5, "num_heads": 1, "embed_dim": 6, "type_vocab_size": 3, **options}
    return BertEmbeddings(MiniBERTConfig(**sizes), generator=torch.Generator().manual_seed(0))


IDS = torch.tensor([[1, 2, 6, 1], [3, 3, 4, 2]])
TYPES = torch.tensor([[0, 0, 1, 2], [2, 1, 0, 0]])
POSITIONS = torch.tensor([[3, 1, 1, 0], [4, 4, 0, 2]])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(
    "ids", [(IDS,), (IDS, TYPES), (IDS, TYPES[:1]), (IDS, None, POSITIONS), (IDS, TYPES, POSITIONS[:1]), (IDS[:1, :1],)]
)
def test_gradients(ids, dropout):
    check_layer(make(dropout=dropout), *ids)


def test_worked_example():
    layer = make(vocab_size=3, embed_dim=2, max_length=2, type_vocab_size=2, epsilon=5.0, dropout=0.0).double()
    tables = {
        "tokens": [[0.0, 0.0], [1.0, 2.0], [3.0, 1.0]],
        "token_types": [[1.0, 0.0], [0.0, 1.0]],
        "positions": [[0.0, 1.0], [1.0, 0.0]],
    }
    for name, rows in tables.items():
        getattr(layer, name).load_state_dict({"weight": torch.tensor(rows)})
    with record():
        x = layer(torch.tensor([[1, 2]]))
        layer.backward(torch.eye(2).double()[None])

    def close(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected).double(), atol=5e-5, rtol=0)

    close(x, [[[-0.2182, 0.2182], [0.6667, -0.6667]]])
    du = [[0.2078, -0.2078], [-0.0926, 0.0926]]
    close(layer.tokens.weight.grad, [[0.0, 0.0], *du])
    close(layer.positions.weight.grad, du)
    close(layer.token_types.weight.grad, [[0.1152, -0.1152], [0.0, 0.0]])
    u = torch.tensor([[2.0, 3.0], [5.0, 1.0]])
    assert u.var(1, correction=0).tolist() == [0.25, 4.0]
    assert float(u[0].var(correction=0)) + 5 == 5.25


def test_the_padding_token_is_zeros_and_stays_so():
    layer = make(pad_token_id=3)
    assert not layer.tokens.weight[3].any()
    with record():
        layer(IDS)
        layer.backward(torch.randn(2, 4, 6))
    assert not layer.tokens.weight.grad[3].any()
    assert layer.tokens.weight.grad[4].any()


def test_sum_to():
    dx = torch.randn(2, 3, 4)
    assert sum_to(dx, 2, 3) is dx
    torch.testing.assert_close(sum_to(dx, 1, 3), dx.sum(0, keepdim=True))
    torch.testing.assert_close(sum_to(dx, 1, 1), dx.sum((0, 1), keepdim=True))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((torch.zeros(1, 6).long(),), r"given input_ids of shape \(1, 6\), expected \(B, T\) of at most 5 tokens"),
        ((torch.zeros(5).long(),), r"given input_ids of shape \(5,\)"),
        (
            (IDS, TYPES[:, :3]),
            r"given token_type_ids of shape \(2, 3\) beside input_ids of \(2, 4\), expected \(2, 4\)",
        ),
        ((IDS, None, torch.zeros(3, 4).long()), r"given position_ids of shape \(3, 4\)"),
    ],
)
def test_ids_that_do_not_fit(ids, message):
    with pytest.raises(ShapeError, match=message):
        make()(*ids)


def test_ids_beyond_a_table():
    for ids in ((IDS + 1,), (IDS, TYPES + 1), (IDS, None, POSITIONS + 1)):
        with pytest.raises(IndexError, match="given the index"):
            make()(*ids)
