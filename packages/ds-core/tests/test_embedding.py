"""Embedding against finite differences, autograd, torch.nn, its errors and a worked example."""

import pytest
import torch
from ds_core import Embedding, Recompute, ShapeError, record
from ds_core.layers.embedding import embedding, embedding_backward, row_scale
from ds_core.testing import check_layer, check_twin_grid, one_graph

INDICES = torch.tensor([[0, 3, 3, 6], [2, 3, 0, 4]])


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4)])
def test_embedding_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Embedding(7, 3), torch.randint(0, 7, shape), batch_dim=0 if len(shape) > 1 else None)


@pytest.mark.parametrize("options", [{"padding_idx": 3}, {"scale_grad_by_freq": True}])
def test_embedding_with_another_gradient_than_the_derivative(options: dict[str, int]) -> None:
    """By their definition these two give other gradients than finite differences would."""
    check_layer(Embedding(7, 3, **options), INDICES, skip=["finite differences"])


def test_embedding_is_the_twin() -> None:
    grid = {
        "num_embeddings": [7],
        "embedding_dim": [3, 1],
        "padding_idx": [None, 0, 3, -3, 7, -8],
        "scale_grad_by_freq": [True, False],
    }
    # sparse, which stores gradients in another way, is left out
    assert check_twin_grid(Embedding, torch.nn.Embedding, grid, [INDICES], left_out=["sparse"]) == 16


@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_embedding_takes_int32(max_norm: float | None) -> None:
    layer, other = Embedding(7, 3, max_norm=max_norm), Embedding(7, 3, max_norm=max_norm)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer(INDICES.int()), other(INDICES))
    assert torch.equal(layer.weight, other.weight)


def test_embedding_of_int32_is_right() -> None:
    check_layer(Embedding(7, 3), INDICES.int())


def test_worked_example() -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    indices = torch.tensor([1, 0, 1])
    assert embedding(indices, weight).tolist() == [[3, 4], [1, 2], [3, 4]]
    dy = torch.tensor([[0.5, 1.0], [2.0, -1.0], [1.5, 3.0]])
    assert embedding_backward(dy, indices, weight).tolist() == [[2, -1], [2, 4]]
    scale = row_scale(indices, weight, None, True)
    assert scale is not None
    assert scale.tolist() == [[0.5], [1], [0.5]]
    assert embedding_backward(dy, indices, weight, scale).tolist() == [[2, -1], [1, 2]]
    scale = row_scale(indices, weight, 1, False)
    assert embedding_backward(dy, indices, weight, scale).tolist() == [[2, -1], [0, 0]]


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.5, float("inf"), float("-inf"), 0.0])
@pytest.mark.parametrize("autograd", [True, False])
def test_max_norm_shrinks_the_rows_that_are_looked_up(norm_type: float, autograd: bool) -> None:
    ours, twin = (cls(7, 3, max_norm=1.2, norm_type=norm_type).double() for cls in (Embedding, torch.nn.Embedding))
    ours.weight.data.mul_(4)
    ours.weight.data[INDICES.flatten()[0], 0] = 0.0  # which counts for the norms of order 0 and -inf
    twin.load_state_dict(ours.state_dict())
    before = ours.weight.detach().clone()
    dy = torch.randn(*INDICES.shape, 3, dtype=torch.float64)
    expected = twin(INDICES)
    expected.backward(dy)
    if autograd:
        y = ours(INDICES)
        y.backward(dy)
    else:
        with record():
            y = ours(INDICES)
            ours.backward(dy)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.weight.detach(), twin.weight.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.weight.grad, twin.weight.grad)
    assert torch.equal(ours.weight[[1, 5]], before[[1, 5]])
    assert not torch.equal(ours.weight.detach(), before)


def test_max_norm_leaves_the_table_alone_where_forward_is_repeated() -> None:
    layer = Embedding(4, 3, max_norm=0.5)
    again = Recompute(layer)
    with record():
        again(torch.tensor([0, 1]))
        layer.weight.data.mul_(3)  # unseen by the trace, which would refuse it
        table = layer.weight.detach().clone()
        again.backward(torch.ones(2, 3))
    assert torch.equal(layer.weight.detach(), table)


@pytest.mark.parametrize("freeze", [True, False])
def test_from_pretrained_takes_the_table_over(freeze: bool) -> None:
    table = torch.randn(7, 3)
    options = {"padding_idx": -1, "max_norm": 2.0, "norm_type": 1.0, "scale_grad_by_freq": True}
    ours = Embedding.from_pretrained(table, freeze, **options)
    twin = torch.nn.Embedding.from_pretrained(table.clone(), freeze, **options)
    assert ours.weight.data_ptr() == table.data_ptr()
    assert repr(ours) == repr(twin)
    assert [name for name, _ in ours.named_parameters()] == ["weight"]
    assert ours.weight.requires_grad is not freeze
    with record():
        y = ours(INDICES)
        ours.backward(torch.ones_like(y))
    expected = twin(INDICES)
    assert torch.allclose(y, expected)
    assert (ours.weight.grad is None) is freeze
    if not freeze:
        expected.sum().backward()
        assert torch.allclose(ours.weight.grad, twin.weight.grad)


def test_embedding_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="padding_idx=7 is not within num_embeddings=7"):
        Embedding(7, 3, padding_idx=7)
    with pytest.raises(ValueError, match="padding_idx=-4 is not within 3 embeddings"):
        Embedding.from_pretrained(torch.randn(3, 2), padding_idx=-4)
    with pytest.raises(ValueError, match=r"given shape \(3,\), expected \(V, D\)"):
        Embedding.from_pretrained(torch.randn(3))
    with pytest.raises(ShapeError, match=r"Embedding\(7, 3\): given indices of torch.float32, expected int64 or int32"):
        Embedding(7, 3)(torch.zeros(2))
    for index in (7, -1):
        with pytest.raises(IndexError, match=r"expected 0 \.\.\. 6"):
            Embedding(7, 3)(torch.tensor([index]))


def test_embedding_draws_from_the_given_generator() -> None:
    first, second = (Embedding(5, 4, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.weight, second.weight)


def test_embedding_in_bfloat16() -> None:
    ours, twin = Embedding(7, 3, dtype=torch.bfloat16), torch.nn.Embedding(7, 3, dtype=torch.bfloat16)
    twin.load_state_dict(ours.state_dict())
    dy = torch.randn(2, 4, 3).bfloat16()
    twin(INDICES).backward(dy)
    with record():
        y = ours(INDICES)
        ours.backward(dy)
    assert torch.equal(y, twin(INDICES))
    torch.testing.assert_close(ours.weight.grad, twin.weight.grad, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("options", [{}, {"padding_idx": 0, "scale_grad_by_freq": True}])
def test_embedding_compiles_in_one_graph(options: dict[str, int]) -> None:
    layer = Embedding(7, 3, **options)

    def step(indices: torch.Tensor) -> torch.Tensor:
        with record():
            y = layer(indices)
            layer.backward(y * 2)
        return y

    compiled = one_graph(step, dynamic=True)
    for indices in (INDICES, INDICES.repeat(2, 2)):
        layer.zero_grad()
        expected = step(indices)
        gradient = layer.weight.grad.clone()
        layer.zero_grad()
        torch.testing.assert_close(compiled(indices), expected)
        torch.testing.assert_close(layer.weight.grad, gradient)


@pytest.mark.parametrize("by_frequency", [False, True])
def test_bfloat16_gradients_of_a_frequent_row_lose_nothing(by_frequency):
    layer = Embedding(3, 2, scale_grad_by_freq=by_frequency, dtype=torch.bfloat16)
    with record():
        layer(torch.ones(1000, dtype=torch.int64))
        layer.backward(torch.ones(1000, 2, dtype=torch.bfloat16))
    expected = 1.0 if by_frequency else 1000.0
    assert layer.weight.grad[1].tolist() == pytest.approx([expected] * 2, rel=0.01)


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_the_table_is_named(index):
    with pytest.raises(IndexError, match=rf"Embedding\(3, 2\): given the index {index}, expected 0 ... 2"):
        Embedding(3, 2)(torch.tensor([0, index]))
