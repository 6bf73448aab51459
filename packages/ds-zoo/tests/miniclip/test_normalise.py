import pytest
import torch
from ds_core import primitives_only, record
from ds_core.testing import check_layer
from ds_zoo.miniclip.normalise import Normalise, normalise, normalise_backward


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (2, 7), (2, 3, 4), (5,)])
def test_layer(shape):
    check_layer(Normalise(), torch.randn(shape, dtype=torch.float64) + 0.1)


def test_equals_torch_and_turns_at_right_angles():
    x = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(Normalise()(x), torch.nn.functional.normalize(x, dim=-1))
    layer = Normalise()
    with record(), primitives_only():
        layer(x)
        dx = layer.backward(torch.randn(5, 8, dtype=torch.float64))
    torch.testing.assert_close((dx * x).sum(1), torch.zeros(5, dtype=torch.float64))


def test_half_precision_is_summed_in_float32():
    x = torch.linspace(0.5, 2.0, 4096).bfloat16().unsqueeze(0)
    y = Normalise()(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, Normalise()(x.float()).bfloat16())


def test_zeros_have_no_direction():
    assert Normalise()(torch.zeros(1, 3)).isnan().all()


def test_worked_example():
    y, inverse = normalise(torch.tensor([[3.0, 4.0]]))
    assert float(inverse) == pytest.approx(0.2)
    torch.testing.assert_close(y, torch.tensor([[0.6, 0.8]]))
    dy = torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(dy - 0.6 * y, torch.tensor([[0.64, -0.48]]))
    torch.testing.assert_close(normalise_backward(dy, y, inverse), torch.tensor([[0.128, -0.096]]))
