import math

import pytest
import torch
from ds_core.testing import check_layer
from ds_zoo.miniclip.similarity import Similarity, similarity, similarity_backward


@pytest.mark.parametrize(("rows", "columns", "length"), [(3, 3, 4), (1, 5, 2), (4, 1, 1)])
def test_layer(rows, columns, length):
    x, y = torch.randn(rows, length, dtype=torch.float64), torch.randn(columns, length, dtype=torch.float64)
    check_layer(Similarity(0.7), x, y, batch_dim=None)


def test_initial_scale():
    layer = Similarity(math.log(1 / 0.07), dtype=torch.float64)
    assert layer.logit_scale.shape == ()
    assert layer.logit_scale.dtype == torch.float64
    one = torch.ones(1, 1, dtype=torch.float64)
    assert float(layer(one, one).detach()) == pytest.approx(1 / 0.07)


def test_worked_example():
    near = {"rtol": 0, "atol": 5e-5}
    x, y = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.eye(2)
    z, scale = similarity(x, y, torch.tensor(math.log(2)))
    torch.testing.assert_close(z, torch.tensor([[2.0, 0.0], [1.2, 1.6]]))
    assert math.e / (math.e + 99) == pytest.approx(0.03, abs=0.005)
    assert math.log(1 / 0.07) == pytest.approx(2.6593, abs=5e-5)
    dz = torch.tensor([[-0.1073, 0.0718], [0.1778, -0.1423]])
    dx, dy, dt = similarity_backward(dz, x, y, scale)
    torch.testing.assert_close(dx, torch.tensor([[-0.2146, 0.1436], [0.3557, -0.2846]]), rtol=0, atol=2e-4)
    torch.testing.assert_close(dy, torch.tensor([[-0.0012, 0.2845], [-0.0272, -0.2277]]), rtol=0, atol=2e-4)
    torch.testing.assert_close(dt, torch.tensor(-0.2289), rtol=0, atol=2e-4)
    torch.testing.assert_close(dt, (dz * z).sum(), **near)
