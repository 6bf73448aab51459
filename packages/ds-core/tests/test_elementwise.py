"""Pieces give what the whole gives, in every dtype and layout, and hold no more memory than they should."""

import pytest
import torch
from ds_core.elementwise import PIECE, Out, elementwise
from torch import Tensor

CALLS: list[int] = []


def difference_and_product(x: Tensor, y: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    CALLS.append(x.numel())
    return torch.sub(x, y, out=out[0]), torch.mul(x, y, out=out[1])


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("numbers", [0, 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 77])
def test_pieces_give_what_the_whole_gives(dtype: torch.dtype, numbers: int) -> None:
    x, y = torch.randn(2, numbers).to(dtype)
    with torch.no_grad():
        difference, product = elementwise(difference_and_product, x, y, results=2)
    torch.testing.assert_close(difference, x - y, rtol=0, atol=0)
    torch.testing.assert_close(product, x * y, rtol=0, atol=0)
    assert sum(CALLS) == numbers
    assert max(CALLS) <= PIECE


@pytest.mark.parametrize("strided", [0, 1])
def test_a_strided_input_is_taken_whole(strided: int) -> None:
    inputs = [torch.randn(600, 700), torch.randn(600, 700)]
    inputs[strided] = torch.randn(700, 600).t()
    with torch.no_grad():
        difference, _ = elementwise(difference_and_product, *inputs, results=2)
    torch.testing.assert_close(difference, inputs[0] - inputs[1], rtol=0, atol=0)
    assert CALLS == [420_000]


def test_autograd_sees_the_whole() -> None:
    x, y = torch.randn(2, 2 * PIECE)
    x.requires_grad_()
    _, product = elementwise(difference_and_product, x, y, results=2)
    product.sum().backward()
    torch.testing.assert_close(x.grad, y)
    assert CALLS == [2 * PIECE]


def test_half_precision_is_rounded_once() -> None:
    x = torch.full((PIECE + 5,), 1.0 + 2**-7, dtype=torch.bfloat16)

    def square_minus_one(x: Tensor, out: Out) -> tuple[Tensor]:
        return (torch.sub(x * x, 1, out=out[0]),)

    with torch.no_grad():
        (found,) = elementwise(square_minus_one, x)
    assert found.dtype == torch.bfloat16
    expected = torch.tensor((1.0 + 2**-7) ** 2 - 1).bfloat16()  # a bfloat16 square would have lost 2**-14
    assert (found == expected).all()


def test_inputs_stay_as_they_are() -> None:
    x, y = torch.randn(2, PIECE + 9)
    before = x.clone(), y.clone()
    with torch.no_grad():
        elementwise(difference_and_product, x, y, results=2)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
