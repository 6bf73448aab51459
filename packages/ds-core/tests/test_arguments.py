"""Arguments of layers and functions: what is read, and what is refused."""

import numpy
import pytest
import torch
from ds_core import AlphaDropout, BatchNorm1d, Dropout
from ds_core.arguments import check_implementation, check_tensors, real_number, whole_number


def test_whole_numbers():
    found = [whole_number("Layer", "size", value) for value in (3, numpy.int64(3), numpy.uint8(3), torch.tensor(3))]
    assert found == [3, 3, 3, 3]
    assert {type(value) for value in found} == {int}
    assert whole_number("Layer", "size", 0, least=0) == 0
    assert whole_number("Layer", "size", -5, least=None) == -5


@pytest.mark.parametrize("value", [True, 3.0, "3", None, [3], numpy.float64(3), numpy.bool_(True)])
def test_what_is_no_whole_number(value):
    with pytest.raises(TypeError, match=r"Layer: given size=.*, expected a whole number, an int"):
        whole_number("Layer", "size", value)


def test_whole_numbers_that_are_too_small():
    with pytest.raises(ValueError, match="Layer: given size=0, expected 1 or more"):
        whole_number("Layer", "size", 0)
    with pytest.raises(ValueError, match="Layer: given size=-1, expected 0 or more"):
        whole_number("Layer", "size", -1, least=0)


def test_numbers():
    for value in (3, 0.5, -1.0, numpy.float32(0.5), numpy.int64(2)):
        assert real_number("Layer", "eps", value) == value
    assert real_number("Layer", "value", float("-inf"), finite=False) == float("-inf")


@pytest.mark.parametrize("value", [True, "3", None, [3], 1j, numpy.bool_(True), object()])
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"Layer: given eps=.*, expected a number"):
        real_number("Layer", "eps", value)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_that_are_not_finite(value):
    with pytest.raises(ValueError, match=r"Layer: given eps=(inf|nan), expected a finite number"):
        real_number("Layer", "eps", value)


def test_implementations():
    layer = Dropout()
    check_implementation(layer, "loops", {"vectorized": 1, "loops": 2})
    with pytest.raises(ValueError, match=r"Dropout: given implementation='fast', expected one of \['a', 'b'\]"):
        check_implementation(layer, "fast", ["b", "a"])


def test_tensors():
    check_tensors("function", x=torch.zeros(1), y=torch.zeros(2))
    with pytest.raises(TypeError, match=r"^function: given y = None, expected a torch.Tensor$"):
        check_tensors("function", x=torch.zeros(1), y=None)
    with pytest.raises(TypeError, match=r"^function: given x = \[1\], a list, expected a torch.Tensor$"):
        check_tensors("function", x=[1])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dropout(True), TypeError, "Dropout: given p=True, expected a number"),
        (lambda: Dropout("0.5"), TypeError, "Dropout: given p='0.5', expected a number"),
        (lambda: Dropout(float("nan")), ValueError, "Dropout: given p=nan, expected a probability"),
        (lambda: AlphaDropout(True), TypeError, "AlphaDropout: given p=True, expected a number"),
        (lambda: BatchNorm1d(True), TypeError, "BatchNorm1d: given num_features=True, expected a whole number"),
        (lambda: BatchNorm1d(2.0), TypeError, "BatchNorm1d: given num_features=2.0, expected a whole number"),
        (lambda: BatchNorm1d(-1), ValueError, "BatchNorm1d: given num_features=-1, expected 0 or more"),
        (lambda: BatchNorm1d(2, eps=None), TypeError, "BatchNorm1d: given eps=None, expected a number"),
        (lambda: BatchNorm1d(2, momentum=True), TypeError, "BatchNorm1d: given momentum=True, expected a number"),
        (lambda: BatchNorm1d(2, eps=float("nan")), ValueError, "BatchNorm1d: given eps=nan, expected a finite"),
    ],
)
def test_layers(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_layers_take_numpys_numbers():
    norm = BatchNorm1d(numpy.int64(3), eps=numpy.float32(1e-3))
    assert norm(torch.randn(4, 3)).shape == (4, 3)
    assert Dropout(numpy.float64(0.5))(torch.ones(3)).shape == (3,)
