"""GroupNorm against finite differences, autograd, torch.nn, its extremes and a worked example."""

import pytest
import torch
from ds_core import GroupNorm, ShapeError, primitives_only, record
from ds_core.layers.group_norm import group_norm, group_norm_backward
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from ds_core.testing.signature import takes_argument
from hypothesis import given, settings
from hypothesis import strategies as st


def shaken_norm(*args: object, **kwargs: object) -> GroupNorm:
    """A GroupNorm whose parameters are not the ones and zeros that hide mistakes."""
    layer = GroupNorm(*args, **kwargs)  # type: ignore[arg-type]
    for tensor in layer.parameters():
        tensor.data.add_(torch.randn(tensor.shape))
    return layer


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("trailing", [(2,), (3, 2)])
def test_group_norm_is_right(groups: int, affine: tuple[bool, bool], trailing: tuple[int, ...]) -> None:
    layer = shaken_norm(groups, 6, affine=affine[0], bias=affine[1])
    check_layer(layer, 2 * torch.randn(3, 6, *trailing) + 1)


def test_group_norm_of_vectors_is_right() -> None:
    check_layer(shaken_norm(2, 6), torch.randn(3, 6))


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 4), (1, 6, 2, 3), (2, 6, 1, 2, 2)])
def test_group_norm_is_the_twin(shape: tuple[int, ...]) -> None:
    grid = {
        "num_groups": [1, 3, 6, 4, 0],
        "num_channels": [6],
        "eps": [1e-5, 0.1],
        "affine": [True, False],
        "bias": [True, False],
    }
    compared = check_twin_grid(GroupNorm, torch.nn.GroupNorm, grid, [torch.randn(shape)], newer=["bias"])
    assert compared == (24 if takes_argument(torch.nn.GroupNorm, "bias") else 12)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(0, 3),
    groups=st.integers(1, 3),
    members=st.integers(1, 3),
    trailing=st.lists(st.integers(1, 3), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_group_norm_of_any_shape_is_the_twins(
    rows: int, groups: int, members: int, trailing: list[int], dtype: torch.dtype, seed: int
) -> None:
    """eps = 1 keeps the gradients of small groups tame, for they are compared in bfloat16 too."""
    generator = torch.Generator().manual_seed(seed)
    x, dy = torch.randn(2, rows, groups * members, *trailing, generator=generator).to(dtype)
    ours, twin = (cls(groups, groups * members, 1.0, dtype=dtype) for cls in (GroupNorm, torch.nn.GroupNorm))
    leaf = x.clone().requires_grad_()
    try:
        expected = twin(leaf)
    except ValueError:  # one number in each group
        with pytest.raises(ShapeError, match="more than 1 value per channel"):
            ours(x)
        return
    expected.backward(dy)
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    near = {"rtol": 2e-2, "atol": 4e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    pairs = [(y, expected.detach()), (dx, leaf.grad)]
    pairs += [(ours.weight.grad, twin.weight.grad), (ours.bias.grad, twin.bias.grad)]
    for found, right in pairs:
        torch.testing.assert_close(found, right, **near)


def test_group_norm_between_its_relatives() -> None:
    """One group is layer normalisation of the example; training and evaluation are the same."""
    x = torch.randn(4, 6, 5)
    torch.testing.assert_close(GroupNorm(1, 6)(x), torch.nn.functional.layer_norm(x, (6, 5)))
    torch.testing.assert_close(GroupNorm(6, 6)(x), torch.nn.functional.instance_norm(x))
    assert torch.equal(GroupNorm(2, 6).eval()(x), GroupNorm(2, 6)(x))


def test_group_norm_takes_channels_last_in_memory() -> None:
    last = torch.randn(2, 3, 4, 6).movedim(-1, 1)
    check_twin(shaken_norm(3, 6), torch.nn.GroupNorm(3, 6), last)


@pytest.mark.parametrize("shape", [(0, 6), (0, 6, 4)])
def test_group_norm_of_no_examples(shape: tuple[int, ...]) -> None:
    check_twin(GroupNorm(2, 6), torch.nn.GroupNorm(2, 6), torch.zeros(shape))


def test_group_norm_refuses_what_does_not_fit() -> None:
    name = r"GroupNorm\(2, 6, eps=1e-05, affine=True, bias=True\): given input of shape "
    for shape, text in [((6,), r"\(6,\)"), ((2, 4, 3), r"\(2, 4, 3\)")]:
        with pytest.raises(ShapeError, match=name + text + r", expected \(N, 6, \.\.\.\)"):
            GroupNorm(2, 6)(torch.randn(shape))
    for shape in [(1, 6), (1, 6, 1)]:
        with pytest.raises(ShapeError, match="more than 1 value per channel"):
            GroupNorm(6, 6)(torch.randn(shape))
    for given_groups in (4, 0, -3):
        with pytest.raises(ValueError, match=f"num_groups={given_groups}, num_channels=6, expected groups that divide"):
            GroupNorm(given_groups, 6)
    shown = repr(GroupNorm(2, 6))
    if not takes_argument(torch.nn.GroupNorm, "bias"):
        shown = shown.replace(", bias=True", "")
    assert shown == repr(torch.nn.GroupNorm(2, 6))


def test_worked_example() -> None:
    x = torch.tensor([[[1.0, 3.0], [2.0, -2.0]]])
    weight, bias = torch.tensor([2.0, 1.0]), torch.tensor([0.5, -0.5])
    dy = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]])
    y, mean, rstd = group_norm(x, weight, bias, groups=1, eps=0.5)
    assert (mean.tolist(), rstd.tolist()) == ([[1.0]], [[0.5]])
    assert float((x - mean).square().mean()) == 3.5
    assert ((x - mean) * rstd).tolist() == [[[0.0, 1.0], [0.5, -1.5]]]
    assert y.tolist() == [[[0.5, 2.5], [0.0, -2.0]]]
    dx, dweight, dbias = group_norm_backward(dy, x, mean, rstd, weight)
    assert (dweight.tolist(), dbias.tolist()) == ([2.0, 3.0], [3.0, 2.0])
    dxhat = dy * weight.view(2, 1)
    assert [float(dxhat.mean()), float((dxhat * (x - mean) * rstd).mean())] == [2.0, 1.75]
    assert dx.tolist() == [[[0.0, 0.125], [0.0625, -0.1875]]]


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1e-4), (0.0, 1.0), (1e4, 1.0), (-1e4, 1e-1), (0.0, 1e10)])
def test_group_norm_at_extremes_is_as_close_as_the_mean_can_be(offset: float, scale: float) -> None:
    """float32, in both engines. What the rounding of a mean of size |offset| moves y by is all that differs."""
    x, dy = scale * torch.randn(3, 6, 16) + offset, torch.randn(3, 6, 16)
    ours, exact = shaken_norm(2, 6), torch.nn.GroupNorm(2, 6).double()
    exact.load_state_dict(ours.state_dict())
    leaf, exact_leaf = x.clone().requires_grad_(), x.double().requires_grad_()
    expected = exact(exact_leaf)
    expected.backward(dy.double())
    ours(leaf).backward(dy)
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    near = 4e-5 + 1e-6 * abs(offset) / scale
    slope = float(exact_leaf.grad.abs().max())
    assert float((y.double() - expected.detach()).abs().max()) <= near
    for found in (dx, leaf.grad):
        assert float((found.double() - exact_leaf.grad).abs().max()) <= 2 * near * slope


def test_group_norm_of_equal_numbers_is_the_twin() -> None:
    """The variance is 0 and 1 / sqrt(eps) bounds the gradient."""
    x = torch.tensor([0.0, 7.0, -1e4]).view(3, 1, 1).expand(3, 4, 2)
    check_twin(GroupNorm(2, 4), torch.nn.GroupNorm(2, 4), x, atol=1e-9)


@pytest.mark.parametrize("parameters", [torch.bfloat16, torch.float32])
def test_group_norm_in_bfloat16_averages_in_float32(parameters: torch.dtype) -> None:
    x, dy = (torch.randn(8, 4, 500) + 3).bfloat16(), torch.randn(8, 4, 500).bfloat16()
    ours, exact = shaken_norm(2, 4).to(parameters), torch.nn.GroupNorm(2, 4).double()
    exact.load_state_dict(ours.state_dict())
    leaf = x.double().requires_grad_()
    expected = exact(leaf)
    expected.backward(dy.double())
    with record():
        y = ours(x)
        dx = ours.backward(dy)
    assert (y.dtype, dx.dtype, ours.weight.grad.dtype) == (torch.bfloat16, torch.bfloat16, parameters)
    pairs = [(y, expected.detach()), (dx, leaf.grad), (ours.weight.grad, exact.weight.grad)]
    pairs += [(ours.bias.grad, exact.bias.grad)]
    for found, right in pairs:  # half a step of bfloat16 is up to 2^-8 of the number
        near = {"rtol": 4.2e-3, "atol": 1e-4} if found.dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-3}
        torch.testing.assert_close(found.double(), right, **near)


def test_group_norm_keeps_the_input_itself_and_two_numbers_a_group() -> None:
    layer, x = GroupNorm(2, 6), torch.randn(10, 6, 7)
    with record() as trace:
        layer(x)
        (line,) = trace.kept()
        assert trace.entries[0].saved[0] is x
        assert line.bytes == x.untyped_storage().nbytes() + 2 * 10 * 2 * 4
        layer.backward(None)


def test_group_norm_without_needs_does_no_work() -> None:
    x, dy, weight = torch.randn(3, 4, 5), torch.randn(3, 4, 5), torch.randn(4)
    _, mean, rstd = group_norm(x, weight, None, 2, 1e-5)
    whole = group_norm_backward(dy, x, mean, rstd, weight)
    for number in range(8):
        needs = (number & 1 > 0, number & 2 > 0, number & 4 > 0)
        with primitives_only() as ran:
            found = group_norm_backward(dy, x, mean, rstd, weight, needs)
        assert tuple(gradient is not None for gradient in found) == needs
        assert ran["sum"] == any(needs) + (needs[0] or needs[1]) + needs[2] + needs[1] + 2 * needs[0]
        for part, same in zip(found, whole, strict=True):
            assert part is None or torch.equal(part, same)


def test_group_norm_compiles_in_one_graph() -> None:
    layer = shaken_norm(2, 4)

    def step(x: torch.Tensor) -> torch.Tensor:
        with record():
            return layer.backward(layer(x) * 2)

    compiled = one_graph(step, dynamic=True)
    for x in (torch.randn(3, 4, 6), torch.randn(5, 4, 7)):
        layer.zero_grad()
        expected = step(x)
        gradient = layer.weight.grad.clone()
        layer.zero_grad()
        torch.testing.assert_close(compiled(x), expected)
        torch.testing.assert_close(layer.weight.grad, gradient)
