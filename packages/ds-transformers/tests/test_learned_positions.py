import pytest
import torch
from ds_core import ShapeError, primitives_only, record
from ds_core.testing import check_layer, check_twin
from ds_transformers import LearnedPositions, add_positions, add_positions_backward


class TorchPositions(torch.nn.Module):
    def __init__(self, max_length, embed_dim, offset):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(max_length, embed_dim))
        self.offset = offset

    def forward(self, x):
        positions = torch.arange(self.offset, self.offset + x.shape[-2])
        return x + torch.nn.functional.embedding(positions, self.weight)


def test_worked_example():
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    x = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[2.0, 2.0], [0.0, -1.0]]])
    dy = torch.tensor([[[1.0, 0.0], [2.0, 1.0]], [[0.0, 3.0], [1.0, 1.0]]])
    assert add_positions(x, weight, 1).tolist() == [[[3.0, 5.0], [6.0, 6.0]], [[5.0, 6.0], [5.0, 5.0]]]
    assert add_positions_backward(dy, weight, 1).tolist() == [[0.0, 0.0], [1.0, 3.0], [3.0, 2.0]]
    layer = LearnedPositions(3, 2)
    layer.load_state_dict({"weight": weight})
    with record():
        y = layer(x, position_ids=torch.tensor([[0, 1], [1, 1]]))
        assert torch.equal(layer.backward(dy), dy)
    assert y[0].tolist() == [[1.0, 3.0], [4.0, 4.0]]
    assert layer.weight.grad.tolist() == [[1.0, 0.0], [3.0, 5.0], [0.0, 0.0]]


@pytest.mark.parametrize("offset", [0, 2])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 4), (2, 0, 4), (3, 4), (2, 2, 3, 4)])
def test_gradients_and_twin(shape, offset):
    class At(LearnedPositions):
        def forward(self, x):
            return super().forward(x, offset)

    x = torch.randn(shape)
    check_layer(At(5, 4), x, batch_dim=0 if len(shape) > 2 and shape[1] > 0 else None)
    check_twin(At(5, 4), TorchPositions(5, 4, offset), x)


@pytest.mark.parametrize("position_ids", [[[0, 1, 2], [3, 3, 0]], [[4, 2, 2]], [1, 0, 1]])
def test_gradients_and_twin_by_number(position_ids):
    ids = torch.tensor(position_ids)

    class Twin(TorchPositions):
        def forward(self, x):
            return x + torch.nn.functional.embedding(ids, self.weight)

    class ByNumber(LearnedPositions):
        def forward(self, x):
            return super().forward(x, position_ids=ids)

    x = torch.randn(2, 3, 4)
    check_layer(ByNumber(5, 4), x, batch_dim=None)
    check_twin(ByNumber(5, 4), Twin(5, 4, 0), x, modes=["train"])


@pytest.mark.parametrize(
    ("position_ids", "error", "message"),
    [
        (torch.tensor([0, 1]), ShapeError, r"given position_ids \(2,\), expected \(2, 3\)"),
        (torch.zeros(2, 3), ShapeError, "given position_ids of torch.float32, expected int64 or int32"),
        (torch.tensor([0, 1, 5]), IndexError, "given position_ids with 5, expected 0 ... 4"),
        (torch.tensor([0, -1, 2]), IndexError, "given position_ids with -1, expected 0 ... 4"),
    ],
)
def test_numbers_that_are_no_positions(position_ids, error, message):
    with pytest.raises(error, match=message):
        LearnedPositions(5, 4)(torch.zeros(2, 3, 4), position_ids=position_ids)


def test_initial_values():
    torch.manual_seed(0)
    first = LearnedPositions(200, 100)
    assert first.weight.std().item() == pytest.approx(0.02, rel=0.05)
    again = [LearnedPositions(5, 4, generator=torch.Generator().manual_seed(1)).weight for _ in range(2)]
    assert torch.equal(*again)
    assert list(first.state_dict()) == ["weight"]


def test_frozen_positions_cost_nothing():
    layer = LearnedPositions(5, 4).requires_grad_(False)
    dy = torch.randn(2, 3, 4)
    with record(), primitives_only() as operations:
        layer(torch.zeros(2, 3, 4))
        dx = layer.backward(dy)
    assert torch.equal(dx, dy)
    assert operations["sum"] == 0
    assert layer.weight.grad is None


@pytest.mark.parametrize(
    ("shape", "offset", "message"),
    [
        ((2, 6, 4), 0, "given positions 0 to 6, expected them within 0 to 5"),
        ((2, 3, 4), 3, "given positions 3 to 6"),
        ((2, 3, 4), -1, "given positions -1 to 2"),
        ((2, 3, 5), 0, r"input of shape \(2, 3, 5\), expected \(..., T, 4\)"),
        ((4,), 0, r"input of shape \(4,\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(shape, offset, message):
    with pytest.raises(ShapeError, match=message):
        LearnedPositions(5, 4)(torch.zeros(shape), offset)
