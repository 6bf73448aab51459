"""ReLU against finite differences, autograd, torch.nn and a worked example."""

import pytest
import torch
from ds_core import ReLU, record
from ds_core.activations.relu import relu, relu_backward
from ds_core.testing import check_layer, check_twin, one_graph


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 4, 5)])
def test_relu_is_right(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    check_layer(ReLU(), x, batch_dim=0 if len(shape) > 1 else None)
    check_twin(ReLU(), torch.nn.ReLU(), x)


def test_worked_example() -> None:
    x = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    y = relu(x)
    assert y.tolist() == [[1, 0], [0, 3]]
    assert relu_backward(torch.tensor([[5.0, 6.0], [7.0, -8.0]]), y).tolist() == [[5, 0], [0, -8]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_relu_at_kink_and_extremes(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -0.0, 1e4, -1e4, float("inf"), float("-inf"), 1e-38], dtype=dtype)
    twin = x.clone().requires_grad_()
    ours = x.clone().requires_grad_()
    torch.relu(twin).sum().backward()
    relu(ours).sum().backward()
    layer = ReLU()
    with record():
        y = layer(x)
        dx = layer.backward(torch.ones_like(x))
    assert torch.equal(y, torch.relu(x))
    assert torch.equal(dx, twin.grad)
    assert torch.equal(ours.grad, twin.grad)


def test_relu_hands_a_nan_on() -> None:
    x = torch.tensor([float("nan"), 1.0])
    assert relu(x).isnan().tolist() == [True, False]
    with torch.no_grad():
        assert relu(x).isnan().tolist() == [True, False]


def test_relu_compiles_in_one_graph() -> None:
    layer = ReLU()

    def step(x: torch.Tensor) -> torch.Tensor:
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4), torch.randn(5, 6)):
        torch.testing.assert_close(compiled(x), step(x))
