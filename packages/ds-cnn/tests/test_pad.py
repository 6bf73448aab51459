"""The pair `pad` and `pad_backward` against torch.nn.functional.pad."""

import random

import pytest
import torch
from ds_cnn import pad, pad_backward, plain_pad, plain_pad_backward
from ds_cnn.padding.pad import MODES, padded_sizes
from ds_core import ShapeError
from hypothesis import given, settings
from hypothesis import strategies as st

F = torch.nn.functional


def draw(generator):
    """A shape of one to three spatial axes, a padding, cuts included, a mode, and whether the channels are last."""
    axes, mode = generator.choice([1, 2, 3]), generator.choice(MODES)
    shape = [2, 2, *[generator.randint(1, 4) for _ in range(axes)]]
    padding = tuple(generator.choice([-2, -1, 0, 0, 1, 2, 3]) for _ in range(2 * axes))
    return shape, padding, mode, generator.random() < 0.5


def theirs(x, padding, mode):
    return F.pad(x, padding, mode, 1.5) if mode == "constant" else F.pad(x, padding, mode)


@pytest.mark.parametrize("seed", range(8))
def test_the_twin_on_random_paddings(seed):
    generator, compared = random.Random(seed), 0
    while compared < 25:
        shape, padding, mode, last = draw(generator)
        x = torch.randn(shape, dtype=torch.float64)
        x = x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x
        try:
            y = pad(x, padding, mode, 1.5)
        except ShapeError:
            continue
        leaf = x.clone().requires_grad_()
        expected = theirs(leaf, padding, mode)
        dy = torch.randn_like(expected)
        expected.backward(dy)
        assert torch.equal(y, expected.detach())
        torch.testing.assert_close(pad_backward(dy, x.shape, padding, mode), leaf.grad, rtol=1e-12, atol=1e-12)
        compared += 1


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 5), before=st.integers(-6, 6), after=st.integers(-6, 6), mode=st.sampled_from(MODES))
def test_refusals_are_the_twins(size, before, after, mode):
    """Both directions, but for a circular border wider than what a cut leaves, which PyTorch reads from itself."""
    x = torch.randn(1, 1, size)
    try:
        expected = theirs(x, (before, after), mode)
    except (RuntimeError, ValueError):
        with pytest.raises(ShapeError, match=r"pad: given padding \(.*\) of an axis of size"):
            pad(x, (before, after), mode, 1.5)
        return
    if mode == "circular" and max(before, after) > size + min(before, 0) + min(after, 0):
        with pytest.raises(ShapeError, match="expected no more padding than the axis is long"):
            pad(x, (before, after), mode, 1.5)
        return
    assert torch.equal(pad(x, (before, after), mode, 1.5), expected)


def test_worked_example():
    x = torch.tensor([1.0, 2.0, 3.0])
    dy = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    right = {
        "constant": ([0.0, 0.0, 1.0, 2.0, 3.0, 0.0], [3.0, 4.0, 5.0]),
        "reflect": ([3.0, 2.0, 1.0, 2.0, 3.0, 2.0], [3.0, 12.0, 6.0]),
        "replicate": ([1.0, 1.0, 1.0, 2.0, 3.0, 3.0], [6.0, 4.0, 11.0]),
        "circular": ([2.0, 3.0, 1.0, 2.0, 3.0, 1.0], [9.0, 5.0, 7.0]),
    }
    for mode, (y, dx) in right.items():
        for forward, backward in [(pad, pad_backward), (plain_pad, plain_pad_backward)]:
            assert forward(x, (2, 1), mode, 0.0).tolist() == y
            assert backward(dy, (3,), (2, 1), mode).tolist() == dx
    assert pad(x, (-1, 1), "constant", 0.0).tolist() == [2.0, 3.0, 0.0]
    assert pad_backward(torch.tensor([1.0, 2.0, 3.0]), (3,), (-1, 1), "constant").tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("mode", MODES)
def test_given_tensors_are_not_changed(mode):
    x, dy = torch.randn(2, 3, 4), torch.randn(2, 3, 6)
    before = x.clone(), dy.clone()
    pad(x, (1, 1), mode)
    pad_backward(dy, x.shape, (1, 1), mode)
    assert torch.equal(x, before[0])
    assert torch.equal(dy, before[1])


@pytest.mark.parametrize("mode", MODES)
def test_channels_last_memory_stays_so(mode):
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    y = pad(x, (1, 1, 1, 1), mode)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float16])
def test_any_dtype_is_kept(mode, dtype):
    x = torch.tensor([[0, 1, 1]]).to(dtype)
    y = pad(x, (1, 1), mode, 1)
    assert y.dtype == dtype
    expected = pad(x.double(), (1, 1), mode, 1)
    assert torch.equal(y.double(), expected)
    assert torch.equal(plain_pad(x, (1, 1), mode, 1), y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_are_rounded_once(dtype):
    dy = (1 + torch.rand(1, 300) / 100).to(dtype)
    for backward in (pad_backward, plain_pad_backward):
        dx = backward(dy, (1, 4), (296, 0), "replicate")
        assert dx.dtype == dtype
        torch.testing.assert_close(dx[0, 0].double(), dy[0, :297].double().sum(), rtol=torch.finfo(dtype).eps, atol=0)


def test_sizes_and_the_name_in_a_message():
    assert padded_sizes((4, 5), (1, 2, -1, 0)) == (3, 8)
    with pytest.raises(ShapeError, match=r"Conv2d: given padding \(4, 0\) of an axis of size 4, expected less padding"):
        padded_sizes((4,), (4, 0), "reflect", "Conv2d")
