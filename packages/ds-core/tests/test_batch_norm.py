"""Batch normalisation as pure functions and as a base class: any number of dimensions, extremes, a worked example."""

import pytest
import torch
from ds_core import ShapeError, primitives_only, record
from ds_core.layers import channels
from ds_core.layers.batch_norm import BatchNorm, batch_norm, batch_norm_backward
from ds_core.testing import check_layer, check_twin
from hypothesis import given, settings
from hypothesis import strategies as st

F = torch.nn.functional


def shaken(layer: BatchNorm) -> BatchNorm:
    """Other parameters and running averages than the zeros and ones that hide mistakes."""
    with torch.no_grad():
        for tensor in [*layer.parameters(), *layer.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape))
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (2, 3, 2, 2), (2, 3, 1, 2, 2)])
def test_batch_norm_is_right(shape: tuple[int, ...], affine: tuple[bool, bool], training: bool) -> None:
    layer = shaken(BatchNorm(3, affine=affine[0], bias=affine[1])).train(training)
    alone = ["batch of one"] if training and len(shape) == 2 else []
    check_layer(layer, 2 * torch.randn(shape) + 1, skip=alone)


@pytest.mark.parametrize(
    ("twin", "shape"), [(torch.nn.BatchNorm2d, (2, 3, 4, 5)), (torch.nn.BatchNorm3d, (2, 3, 2, 4, 5))]
)
def test_batch_norm_serves_images_and_volumes(twin: type, shape: tuple[int, ...]) -> None:
    check_twin(BatchNorm(3), twin(3), torch.randn(shape))
    last = torch.randn(shape[0], *shape[2:], 3).movedim(-1, 1)  # channels last in memory
    check_twin(BatchNorm(3), twin(3), last)


def test_worked_example() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, -2.0]])
    weight, bias = torch.tensor([2.0, 1.0]), torch.tensor([0.5, -0.5])
    dy = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
    near = {"rtol": 0, "atol": 5e-5}
    y, mean, var, rstd = batch_norm(x, weight, bias, eps=3.0)
    assert (mean.tolist(), var.tolist()) == ([2.0, 0.0], [1.0, 4.0])
    torch.testing.assert_close(rstd, torch.tensor([0.5, 0.3780]), **near)
    torch.testing.assert_close((x - mean) * rstd, torch.tensor([[-0.5, 0.7559], [0.5, -0.7559]]), **near)
    torch.testing.assert_close(y, torch.tensor([[-0.5, 0.2559], [1.5, -1.2559]]), **near)
    dx, dweight, dbias = batch_norm_backward(dy, x, mean, rstd, weight, inverse_count=1 / 2)
    assert dbias.tolist() == [3.0, 2.0]
    torch.testing.assert_close(dweight, torch.tensor([0.5, 3.0237]), **near)
    torch.testing.assert_close(dx, torch.tensor([[-0.375, 0.3240], [0.375, -0.3240]]), **near)
    assert [dbias[0] / 2, dweight[0] / 2] == [1.5, 0.25]  # the two means of the first channel

    layer = BatchNorm(2, eps=3.0, momentum=0.1)
    layer.load_state_dict(layer.state_dict() | {"weight": weight, "bias": bias})
    layer(x)
    by_hand = [0.9 + 0.1 * 2, 0.9 + 0.1 * 8]
    assert by_hand == pytest.approx([1.1, 1.7])
    torch.testing.assert_close(layer.running_mean, torch.tensor([0.2, 0.0]))
    torch.testing.assert_close(layer.running_var, torch.tensor([1.1, 1.7]))
    y, mean, _, rstd = batch_norm(x, weight, bias, 3.0, layer.running_mean, layer.running_var)
    torch.testing.assert_close(rstd, torch.tensor([0.4939, 0.4613]), **near)
    torch.testing.assert_close(y, torch.tensor([[1.2902, 0.4225], [3.2656, -1.4225]]), **near)
    dx, dweight, _ = batch_norm_backward(dy, x, mean, rstd, weight, inverse_count=None)
    torch.testing.assert_close(dx, torch.tensor([[0.9877, 1.3838], [1.9755, -0.4613]]), **near)
    torch.testing.assert_close(dweight, torch.tensor([3.1607, 3.6901]), **near)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(2, 5),
    trailing=st.lists(st.integers(1, 3), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    affine=st.sampled_from([(True, True), (True, False), (False, False)]),
    training=st.booleans(),
    seed=st.integers(0, 99),
)
def test_batch_norm_is_pytorchs_function(
    rows: int, trailing: list[int], dtype: torch.dtype, affine: tuple[bool, bool], training: bool, seed: int
) -> None:
    """eps = 1 keeps the gradients of the few numbers in a channel tame. bfloat16 is rounded once, from float32."""
    generator = torch.Generator().manual_seed(seed)
    x, dy = (torch.randn(2, rows, 3, *trailing, generator=generator) + 0.5).to(dtype)
    weight, bias, mean, var = (torch.rand(4, 3, generator=generator) + 0.5).to(dtype)
    exact = torch.float64 if dtype == torch.bfloat16 else dtype  # theirs rounds in between
    leaves = [tensor.to(exact, copy=True).requires_grad_() for tensor in (x, weight, bias)]
    options = (leaves[1] if affine[0] else None, leaves[2] if affine[1] else None)
    expected = F.batch_norm(leaves[0], mean.to(exact), var.to(exact), *options, training=training, eps=1.0)
    expected.backward(dy.to(exact))
    with torch.no_grad():
        ours = (weight if affine[0] else None, bias if affine[1] else None)
        y, mean, _, rstd = batch_norm(x, *ours, 1.0, *((None, None) if training else (mean, var)))
        share = 3 / x.numel() if training else None
        dx, dweight, dbias = batch_norm_backward(dy, x, mean, rstd, ours[0], share)
    near = {"rtol": 2**-8 if dtype == torch.bfloat16 else 1e-5, "atol": 1e-5}
    pairs = [(y, expected), (dx, leaves[0].grad), (dweight, leaves[1].grad), (dbias, leaves[2].grad)]
    for found, right in pairs[: 2 + sum(affine)]:
        torch.testing.assert_close(found.to(dtype).to(exact), right.detach(), **near)
    assert (y.dtype, dx.dtype) == (dtype, dtype)


@pytest.mark.parametrize("shape", [(64, 3), (16, 3, 8)])
@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1e-4), (0.0, 1.0), (1e4, 1.0), (-1e4, 1e-1), (0.0, 1e10)])
def test_batch_norm_at_extremes_is_as_close_as_the_mean_can_be(
    shape: tuple[int, ...], offset: float, scale: float
) -> None:
    """float32. What the rounding of a mean of size |offset| moves y by is all that differs from float64."""
    x, dy = scale * torch.randn(shape) + offset, torch.randn(shape)
    layer = shaken(BatchNorm(3))
    exact = torch.nn.SyncBatchNorm(3).double()  # outside torch.distributed that of any number of dimensions
    exact.load_state_dict(layer.state_dict())
    leaf = x.double().requires_grad_()
    expected = exact(leaf)
    expected.backward(dy.double())
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    autograd_leaf = x.clone().requires_grad_()
    layer(autograd_leaf).backward(dy)
    near = 1e-5 + 2e-6 * abs(offset) / scale * 2**-3
    assert float((y.double() - expected.detach()).abs().max()) <= 4 * near
    slope = float(leaf.grad.abs().max())
    for found in (dx, autograd_leaf.grad):
        assert float((found.double() - leaf.grad).abs().max()) <= 8 * near * slope


def test_one_number_is_its_own_mean() -> None:
    """The layer refuses it, the function does not."""
    x, weight, bias = torch.tensor([[3.0, -1.0]]), torch.tensor([2.0, 5.0]), torch.tensor([0.5, -0.5])
    y, mean, var, rstd = batch_norm(x, weight, bias, eps=0.25)
    assert (y.tolist(), mean.tolist(), var.tolist(), rstd.tolist()) == (
        [[0.5, -0.5]],
        [3.0, -1.0],
        [0.0, 0.0],
        [2.0, 2.0],
    )


def test_a_constant_channel_gives_its_bias() -> None:
    """The variance is 0 and 1 / sqrt(eps) bounds the gradient."""
    x = torch.tensor([7.0, 0.0, -1e4]).expand(4, 3)
    check_twin(BatchNorm(3), torch.nn.BatchNorm1d(3), x, atol=1e-9)


def test_batch_norm_computes_what_is_needed() -> None:
    x, dy, weight = torch.randn(4, 3), torch.randn(4, 3), torch.randn(3)
    _, mean, _, rstd = batch_norm(x, weight, None, 1e-5)
    for share in (1 / 4, None):
        whole = batch_norm_backward(dy, x, mean, rstd, weight, share)
        for number in range(8):
            needs = (number & 1 > 0, number & 2 > 0, number & 4 > 0)
            with primitives_only() as ran:
                found = batch_norm_backward(dy, x, mean, rstd, weight, share, needs)
            assert tuple(gradient is not None for gradient in found) == needs
            sums = 2 if needs[0] and share is not None else needs[1] + needs[2]
            assert ran["sum"] == sums
            for part, same in zip(found, whole, strict=True):
                assert part is None or torch.equal(part, same)


def test_batch_norm_of_a_part_with_the_totals_of_the_whole() -> None:
    x, dy, weight = (torch.randn(shape, dtype=torch.float64) for shape in [(6, 3), (6, 3), (3,)])
    _, mean, var, rstd = batch_norm(x, weight, None, 1e-5)
    dx, dweight, dbias = batch_norm_backward(dy, x, mean, rstd, weight, 1 / 6)
    y, *_ = batch_norm(x[:2], weight, None, 1e-5, mean, var)
    torch.testing.assert_close(y, batch_norm(x, weight, None, 1e-5)[0][:2])
    with primitives_only() as ran:
        part, none, nor_bias = batch_norm_backward(
            dy[:2], x[:2], mean, rstd, weight, 1 / 6, (True, False, False), (dweight, dbias)
        )
    torch.testing.assert_close(part, dx[:2])
    assert (none, nor_bias, ran["sum"]) == (None, None, 0)


def test_batch_norm_keeps_the_input_itself_and_two_numbers_a_channel() -> None:
    x = torch.randn(10, 20, 5)
    for layer in (BatchNorm(20), BatchNorm(20).eval()):
        with record() as trace:
            layer(x)
            (line,) = trace.kept()
            assert trace.entries[0].saved[0] is x
            assert line.bytes == x.untyped_storage().nbytes() + 2 * 20 * 4
            layer.backward(None)


def test_batch_norm_refuses_what_has_no_channels() -> None:
    with pytest.raises(ShapeError, match=r"BatchNorm\(3, .*given input of shape \(3,\), expected \(N, C, \.\.\.\)"):
        BatchNorm(3)(torch.randn(3))
    with pytest.raises(TypeError, match=r"BatchNorm\(3, .*given input of torch.int64, expected floating numbers"):
        BatchNorm(3)(torch.arange(6).view(2, 3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, False)])
def test_loops_are_right(training: bool, affine: tuple[bool, bool]) -> None:
    layer = BatchNorm(2, affine=affine[0], bias=affine[1], implementation="loops")
    check_layer(shaken(layer).train(training), torch.randn(2, 2, 2) + 1, samples=2)


def test_loops_and_the_default_move_alike() -> None:
    x, dy = torch.randn(3, 2, 2).double(), torch.randn(3, 2, 2).double()
    found = []
    for implementation in ("loops", "vectorized"):
        layer = BatchNorm(2, dtype=torch.float64, implementation=implementation)  # type: ignore[arg-type]
        with record():
            y = layer(x)
            dx = layer.backward(dy)
        assert layer.weight is not None
        found.append((y, dx, layer.weight.grad, layer.running_mean, layer.running_var))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_an_unknown_implementation_is_refused() -> None:
    expected = r"BatchNorm: given implementation='fast', expected one of \['loops', 'vectorized'\]"
    with pytest.raises(ValueError, match=expected):
        BatchNorm(2, implementation="fast")  # type: ignore[arg-type]


# Several images a chunk, an image cut into rows, the batch cut into rows, rows of unequal number.
@pytest.mark.parametrize("shape", [(8, 5, 4, 4), (2, 3, 40, 9), (2, 1, 30, 2, 10), (300, 3), (3, 2, 700)])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_chunks_are_the_whole(
    shape: tuple[int, ...], last: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, dy = ((2 * torch.randn(shape) + 3).to(dtype) for _ in range(2))
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    weight, bias = torch.rand(2, shape[1]).to(dtype)
    runs = []
    for size in (channels.CHUNK, 128):
        monkeypatch.setattr(channels, "CHUNK", size)
        with torch.no_grad():
            assert channels.in_chunks(x) == (size == 128)
            y, mean, var, rstd = batch_norm(x, weight, bias, 1e-5)
            gradients = batch_norm_backward(dy, x, mean, rstd, weight, shape[1] / x.numel())
        assert y.stride() == x.stride()
        runs.append((y, mean, var, rstd, *gradients))
    near = {"rtol": 1e-11, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 2**-7, "atol": 1e-4}
    for whole, cut in zip(*runs, strict=True):
        torch.testing.assert_close(cut, whole, **near)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_variance_of_chunks_keeps_its_digits_beside_a_large_mean(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CHUNK", 256)
    x = torch.randn(64, 3, 8) + offset + torch.linspace(0, 9, 64).view(-1, 1, 1)
    with torch.no_grad():
        mean, var = channels.channel_moments(x)
    right = x.double().var([0, 2], correction=0)
    torch.testing.assert_close(var.double(), right, rtol=1e-4, atol=0)
    torch.testing.assert_close(mean.double(), x.double().mean([0, 2]), rtol=1e-6, atol=1e-5)
