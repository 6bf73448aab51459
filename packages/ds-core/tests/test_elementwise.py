"""Chunks give what the whole gives, in every dtype and layout, and hold no more memory than they should."""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager

import ds_core
import pytest
import torch
from ds_core import record
from ds_core.speed.elementwise import CHUNK, Out, elementwise
from torch import Tensor
from torch._dynamo.testing import CompileCounter

CALLS: list[int] = []
NUMBERS = [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 77]


def difference_and_product(x: Tensor, y: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    """Both round each number as IEEE 754 says, wherever it stands: their results are equal bit by bit."""
    CALLS.append(x.numel())
    return torch.sub(x, y, out=out[0]), torch.mul(x, y, out=out[1])


def with_new_memory(x: Tensor, y: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    """The same, which leaves `out` alone."""
    return difference_and_product(x, y, (None, None))


def with_one_out(x: Tensor, y: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    """The same, which writes only to the second."""
    return difference_and_product(x, y, (None, out[1]))


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@pytest.mark.parametrize("function", [difference_and_product, with_new_memory, with_one_out])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("numbers", NUMBERS)
def test_chunks_give_what_the_whole_gives(function, dtype: torch.dtype, numbers: int) -> None:
    x, y = torch.randn(2, numbers).to(dtype)
    with torch.no_grad():
        difference, product = elementwise(function, x, y, results=2)
    torch.testing.assert_close(difference, x - y, rtol=0, atol=0)
    torch.testing.assert_close(product, x * y, rtol=0, atol=0)
    assert sum(CALLS) == numbers
    assert max(CALLS) <= CHUNK


@pytest.mark.parametrize("strided", [0, 1])
def test_a_strided_input_is_taken_whole(strided: int) -> None:
    inputs = [torch.randn(600, 700), torch.randn(600, 700)]
    inputs[strided] = torch.randn(700, 600).t()
    with torch.no_grad():
        difference, _ = elementwise(difference_and_product, *inputs, results=2)
    torch.testing.assert_close(difference, inputs[0] - inputs[1], rtol=0, atol=0)
    assert CALLS == [420_000]


def test_autograd_sees_the_whole() -> None:
    x, y = torch.randn(2, 2 * CHUNK)
    x.requires_grad_()
    _, product = elementwise(difference_and_product, x, y, results=2)
    product.sum().backward()
    torch.testing.assert_close(x.grad, y)
    assert CALLS == [2 * CHUNK]


def test_a_compiler_sees_the_whole_and_one_graph_serves_all_sizes() -> None:
    counter = CompileCounter()

    @torch.compile(backend=counter, dynamic=True, fullgraph=True)
    def square(x: Tensor) -> tuple[Tensor, ...]:
        return elementwise(lambda x, out: (torch.mul(x, x, out=out[0]),), x)

    with torch.no_grad():
        for numbers in (CHUNK - 3, CHUNK + 3):
            x = torch.randn(numbers)
            torch.testing.assert_close(square(x), (x * x,))
    assert counter.frame_count == 1


def test_half_precision_is_rounded_once() -> None:
    x = torch.full((CHUNK + 5,), 1 + 3 * 2**-7, dtype=torch.bfloat16)

    def square_minus_one(x: Tensor, out: Out) -> tuple[Tensor]:
        return (torch.sub(x * x, 1, out=out[0]),)

    with torch.no_grad():
        (found,) = elementwise(square_minus_one, x)
    assert found.dtype == torch.bfloat16
    expected = torch.tensor((1 + 3 * 2**-7) ** 2 - 1).bfloat16()
    assert (found == expected).all()
    assert (square_minus_one(x, (None,))[0] != expected).all()  # a bfloat16 square has lost the last of it, 9 * 2**-14


class NewMemory(torch.utils._python_dispatch.TorchDispatchMode):
    """The most bytes at one time of tensors made under it, which are none of those `given`."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.given = {tensor.data_ptr() for tensor in given}
        self.made: list[weakref.ref[torch.UntypedStorage]] = []
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = result if isinstance(result, (tuple, list)) else [result]
        self.made += [weakref.ref(tensor.untyped_storage()) for tensor in tensors]
        alive = {storage.data_ptr(): storage.nbytes() for made in self.made if (storage := made()) is not None}
        self.most = max(self.most, sum(size for address, size in alive.items() if address not in self.given))
        return result


@pytest.mark.parametrize(("dtype", "temporaries"), [(torch.float32, 2), (torch.bfloat16, 5)])
def test_memory_is_that_of_the_results_and_a_few_chunks(dtype: torch.dtype, temporaries: int) -> None:
    """Two temporaries of a chunk; in half precision also the chunk, the results and what is left of the last chunk."""

    def chain(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
        temporary = torch.exp(x) + 1
        return torch.mul(x, temporary, out=out[0]), torch.add(x, temporary, out=out[1])

    x = torch.randn(20 * CHUNK).to(dtype)
    with torch.no_grad(), NewMemory(x) as memory:
        elementwise(chain, x, results=2)
    assert memory.most <= 2 * 20 * CHUNK * x.element_size() + temporaries * CHUNK * 4


def test_results_of_integers_are_not_cut_off() -> None:
    def half(x: Tensor, out: Out) -> tuple[Tensor]:
        return (torch.mul(x, 0.5, out=out[0]),)

    for count in (3, CHUNK + 1):
        with torch.no_grad():
            (y,) = elementwise(half, torch.full((count,), 3))
        assert torch.equal(y, torch.full((count,), 1.5))


INTEGERS = torch.tensor([[-2, 0], [1, 3]])


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "Softsign"])
@pytest.mark.parametrize("engine", [record, torch.enable_grad, torch.no_grad])
def test_activations_of_integers(name: str, engine: Callable[[], AbstractContextManager[object]]) -> None:
    layer = getattr(ds_core, name)()
    with engine() as trace:
        y = layer(INTEGERS)
        if trace is not None:
            assert layer.backward(torch.ones_like(y)).dtype == torch.float32
    torch.testing.assert_close(y, getattr(torch.nn, name)()(INTEGERS))


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Softmin"])
def test_softmax_of_integers(name: str) -> None:
    """torch.nn refuses them."""
    expected = getattr(torch.nn, name)(-1)(INTEGERS.float())
    torch.testing.assert_close(getattr(ds_core, name)(-1)(INTEGERS), expected)
    torch.testing.assert_close(ds_core.PReLU()(INTEGERS), torch.nn.PReLU()(INTEGERS.float()))
