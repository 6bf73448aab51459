import pytest
import torch
from ds_cnn import (
    MaxPool2d,
    MaxUnpool2d,
    max_unpool2d,
    max_unpool2d_backward,
    plain_max_unpool2d,
    plain_max_unpool2d_backward,
)
from ds_core import ShapeError, record
from ds_core.testing import check_layer, check_signature, check_twin, one_graph
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])
PAIRS = [(max_unpool2d, max_unpool2d_backward), (plain_max_unpool2d, plain_max_unpool2d_backward)]


def pooled(shape, *arguments):
    return torch.nn.MaxPool2d(*arguments, return_indices=True)(torch.randn(shape))


@BOTH
@pytest.mark.parametrize("arguments", [(2,), ((2, 3), (3, 3)), (2, 2, (1, 0))], ids=str)
def test_layer(arguments, implementation):
    y, indices = pooled((2, 2, 7, 6), *arguments)
    layer = MaxUnpool2d(*arguments, implementation=implementation)
    check_layer(layer, y, indices, kwargs={"output_size": (7, 6)}, batch_dim=[0, 0, None])


def test_signature():
    check_signature(MaxUnpool2d, torch.nn.MaxUnpool2d)


def test_twin_over_all_arguments():
    compared = 0
    for kernel_size in (2, 3, (3, 2)):
        for stride in (None, 1, 2, (2, 3)):
            for padding in (0, 1, (1, 0)):
                arguments = kernel_size, stride, padding
                for shape in ((2, 2, 7, 8), (2, 7, 8)):
                    y, indices = pooled(shape, *arguments)
                    ours, twin = MaxUnpool2d(*arguments), torch.nn.MaxUnpool2d(*arguments)
                    sizes = [(7, 8)] + ([shape] if len(shape) == 4 else [])
                    for output_size in sizes:
                        kwargs = {"output_size": output_size}
                        check_twin(ours, twin, y, indices, kwargs=kwargs, modes=["train"])
                        compared += 1
    assert compared == 3 * 4 * 3 * 3


def test_default_size_is_the_twins():
    for arguments in [(2,), (3, 2), (3, 2, 1), ((2, 3), (1, 2), (0, 1))]:
        x = torch.randn(1, 2, 3, 4)
        indices = torch.arange(12).view(1, 1, 3, 4).expand(1, 2, 3, 4)
        check_twin(MaxUnpool2d(*arguments), torch.nn.MaxUnpool2d(*arguments), x, indices)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
def test_both_implementations_agree(p, q, height, width):
    x = torch.randn(2, p, q, dtype=torch.float64)
    indices = torch.randint(height * width, (2, p, q))  # some of them twice
    y, plain_y = (forward(x, indices, (height, width)) for forward, _ in PAIRS)
    assert torch.equal(y, plain_y)
    dx, plain_dx = (backward(torch.cos(y), indices) for _, backward in PAIRS)
    assert torch.equal(dx, plain_dx)


@BOTH
def test_of_values_with_one_index_the_last_remains(implementation):
    x, indices = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[5, 5], [0, 5]]])
    check_twin(MaxUnpool2d(2, implementation=implementation), torch.nn.MaxUnpool2d(2), x, indices)
    assert MaxUnpool2d(2, implementation=implementation)(x, indices)[0, 1, 1] == 4


def test_pooling_undone():
    x = torch.randn(2, 3, 6, 6)
    pool, unpool = MaxPool2d(2, return_indices=True), MaxUnpool2d(2)
    y, indices = pool(x)
    back = unpool(y, indices)
    assert torch.equal(pool(torch.where(back == 0, -9.0, back))[0], y)
    assert ((back == x) | (back == 0)).all()


def test_worked_example():
    x, indices = torch.tensor([[5.0, 7.0]]), torch.tensor([[1, 6]])
    dy = torch.tensor([[0.5, 1.0, 0.25, -1.0], [2.0, -0.5, 3.0, 0.75]])
    for forward, backward in PAIRS:
        assert forward(x, indices, (2, 4)).tolist() == [[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 7.0, 0.0]]
        assert backward(dy, indices).tolist() == [[1.0, 3.0]]


@pytest.mark.parametrize("arguments", [(0,), (2, 0), (2, 2, -1), ((1, 2, 3),)])
def test_impossible_arguments(arguments):
    with pytest.raises(ValueError, match="MaxUnpool2d"):
        MaxUnpool2d(*arguments)


@pytest.mark.parametrize("wrong", [-1, 16, 10**6])
def test_index_outside_the_output(wrong):
    indices = torch.zeros(1, 1, 2, 2, dtype=torch.int64)
    indices[0, 0, 1, 0] = wrong
    with pytest.raises(ShapeError, match=rf"MaxUnpool2d\(.*given indices from .*{wrong}.*expected 0 to 15"):
        MaxUnpool2d(2)(torch.zeros(1, 1, 2, 2), indices)


@pytest.mark.parametrize("indices", [torch.zeros(1, 1, 2, 3).long(), torch.zeros(1, 1, 2, 2).int()])
def test_impossible_indices(indices):
    with pytest.raises(ShapeError, match=r"MaxUnpool2d\(.*given indices .*expected the shape of the input"):
        MaxUnpool2d(2)(torch.zeros(1, 1, 2, 2), indices)


@pytest.mark.parametrize("output_size", [(6, 4), (4, 2), (4,), (1, 4, 4), ()])
def test_impossible_output_size(output_size):
    x, indices = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"MaxUnpool2d\(.*output_size"):
        MaxUnpool2d(2)(x, indices, output_size)
    with pytest.raises(ValueError, match="output_size"):
        torch.nn.MaxUnpool2d(2)(x, indices, output_size)


@pytest.mark.parametrize("shape", [(2, 2), (1, 0, 2, 2), (1, 2, 0, 2)])
def test_impossible_input(shape):
    with pytest.raises(ShapeError, match=r"MaxUnpool2d\(.*given input of shape"):
        MaxUnpool2d(2)(torch.zeros(shape), torch.zeros(shape, dtype=torch.int64))


def test_compiles_whole():
    layer, x = MaxUnpool2d(2), torch.randn(2, 3, 2, 2)
    indices, dy = torch.randint(16, (2, 3, 2, 2)), torch.randn(2, 3, 4, 4)

    def step(x, indices, dy):
        with record():
            return layer(x, indices), layer.backward(dy)

    torch.testing.assert_close(one_graph(step)(x, indices, dy), step(x, indices, dy))
