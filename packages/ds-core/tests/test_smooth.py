"""The base class of smooth activations, on the square function."""

import pytest
import torch
from activation_checks import handwritten, kept_bytes
from ds_core import no_record, record
from ds_core.activations.smooth import SmoothActivation, slope_backward
from ds_core.testing import check_layer


class Square(SmoothActivation):
    """It counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def value(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.append("value")
        return x * x

    def value_and_slope(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append("value and slope")
        return x * x, 2 * x


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5)])
def test_a_subclass_with_two_methods_is_right(shape: tuple[int, ...]) -> None:
    check_layer(Square(), torch.randn(shape), batch_dim=0 if len(shape) > 1 else None)


def test_worked_example() -> None:
    x, dy = torch.tensor([1.5, -0.5]), torch.tensor([2.0, 4.0])
    y, dx = handwritten(Square(), x, dy)
    assert y.tolist() == [2.25, 0.25]
    assert dx.tolist() == slope_backward(dy, torch.tensor([3.0, -1.0])).tolist() == [6, -4]


def test_the_slope_is_computed_only_if_a_backward_will_need_it() -> None:
    layer, x = Square(), torch.randn(3)
    layer(x)
    with no_record():
        layer(x)
    assert layer.asked == ["value", "value"]
    with record():
        layer(x)
        with no_record():
            layer(x)
        assert layer.backward(None) is None
    assert layer.asked[2:] == ["value and slope", "value"]
    assert kept_bytes(layer, torch.randn(100, 10)) == 4000


def test_a_method_that_is_missing_is_named() -> None:
    class Half(SmoothActivation):
        pass

    with pytest.raises(NotImplementedError, match=r"Half has no value\(x\)"):
        Half()(torch.randn(3))
    with pytest.raises(NotImplementedError, match=r"Half has no value_and_slope\(x\)"), record():
        Half()(torch.randn(3))
