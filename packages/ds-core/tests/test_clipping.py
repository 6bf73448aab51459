import math
from contextlib import nullcontext

import pytest
import torch
from ds_core import clip_grad_norm_, clip_grad_value_, plain, primitives_only
from ds_core.optimizers.clipping import get_total_norm
from hypothesis import given, settings
from hypothesis import strategies as st


def with_gradients(*gradients):
    parameters = []
    for gradient in gradients:
        tensor = (
            torch.zeros(3, requires_grad=True) if gradient is None else torch.zeros_like(gradient, requires_grad=True)
        )
        tensor.grad = None if gradient is None else gradient.clone()
        parameters.append(tensor)
    return parameters


def test_worked_example():
    a, b = with_gradients(torch.tensor([[1.0, -2.0], [0.0, 4.0]]).double(), torch.tensor([2.0]).double())
    assert clip_grad_norm_([a, b], 2.5).item() == 5.0
    torch.testing.assert_close(a.grad.tolist(), [[0.5, -1.0], [0.0, 2.0]], rtol=1e-6, atol=0)
    torch.testing.assert_close(b.grad.tolist(), [1.0], rtol=1e-6, atol=0)
    assert clip_grad_norm_([a, b], 2.5, norm_type=math.inf).item() == pytest.approx(2.0, rel=1e-6)
    assert clip_grad_norm_([a, b], 3.0, norm_type=1).item() == pytest.approx(4.5, rel=1e-6)
    clip_grad_value_([a, b], 0.25)
    torch.testing.assert_close(a.grad.tolist(), [[0.25, -0.25], [0.0, 0.25]])


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5),
    max_norm=st.sampled_from([0.0, 0.01, 1.0, 1000.0, math.inf]),
    norm_type=st.sampled_from([0.5, 1, 1.5, 2, 2.0, 3, math.inf, "inf"]),
    seed=st.integers(0, 100),
)
def test_like_torch_for_any_norm_and_shapes(shapes, max_norm, norm_type, seed):
    if float(norm_type) == math.inf:
        shapes = [shape for shape in shapes if 0 not in shape]  # of which torch takes no largest element
    generator = torch.Generator().manual_seed(seed)
    gradients = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    ours, theirs = with_gradients(*gradients, None), with_gradients(*gradients, None)
    with primitives_only():
        norm = clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, float(norm_type))
    torch.testing.assert_close(norm, expected, rtol=1e-12, atol=1e-14, check_dtype=len(gradients) > 0)
    assert norm.shape == ()
    for own, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, its.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    gradients = [torch.linspace(-30, 30, 1000).to(dtype), torch.full((7,), 3.0).to(dtype)]
    ours, theirs = with_gradients(*gradients), with_gradients(*gradients)
    exact = get_total_norm([gradient.double() for gradient in gradients]).item()
    # in float16 the sum of squares would be infinite
    assert clip_grad_norm_(ours, 10.0).item() == pytest.approx(exact, rel=1e-6)
    torch.nn.utils.clip_grad_norm_(theirs, 10.0)
    for own, its in zip(ours, theirs, strict=True):
        assert own.grad.dtype == dtype
        torch.testing.assert_close(own.grad, its.grad)
    mixed = with_gradients(torch.ones(3), torch.ones(3).double(), torch.ones(3).bfloat16())
    assert clip_grad_norm_(mixed, 1.0).item() == 3.0
    assert [parameter.grad.dtype for parameter in mixed] == [torch.float32, torch.float64, torch.bfloat16]


def test_one_tensor_a_generator_a_view_and_nothing():
    (a,) = with_gradients(torch.ones(4, 3).t())
    assert clip_grad_norm_(a, 1.0).item() == pytest.approx(math.sqrt(12))
    assert clip_grad_norm_((parameter for parameter in [a]), 1.0).item() == pytest.approx(1.0, rel=1e-5)
    assert clip_grad_norm_([], 1.0).item() == 0.0
    assert clip_grad_norm_([torch.zeros(2, requires_grad=True)], 1.0).item() == 0.0
    clip_grad_value_(a, 0.1)
    assert a.grad.max().item() == pytest.approx(0.1)


@pytest.mark.parametrize("norm_type", [1, 2, math.inf])
def test_big_and_small_gradients_together(norm_type):
    gradients = (
        torch.linspace(-1, 2, 5000),
        torch.tensor([3.0]),
        torch.linspace(-2, 1, 70 * 70).view(70, 70),
        torch.ones(2),
    )
    ours, theirs = with_gradients(*gradients), with_gradients(*gradients)
    norm = clip_grad_norm_(ours, 1.0, norm_type)
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type))
    for own, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, its.grad)


def test_the_norm_is_where_the_first_tensor_is():
    """`meta` is a device too, and what is there is never computed."""
    small, big = torch.ones(2, device="meta"), torch.ones(5000)
    assert get_total_norm([small, big]).device.type == "meta"
    assert torch.nn.utils.get_total_norm([small, big]).device.type == "meta"
    assert get_total_norm([]).device.type == "cpu"


def test_a_factor_of_1_is_not_multiplied(monkeypatch):
    (a,) = with_gradients(torch.ones(3))
    with primitives_only() as operations:
        clip_grad_norm_([a], 5.0)
    assert operations["_foreach_mul"] == 0
    with primitives_only() as operations:
        clip_grad_norm_([a], 1.0)
    assert operations["_foreach_mul"] == 1


def test_gradients_below_the_limit_stay_as_they_are():
    gradient = torch.tensor([3.0, 4.0])
    (a,) = with_gradients(gradient)
    clip_grad_norm_([a], 5.1)
    assert torch.equal(a.grad, gradient)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite(bad):
    gradients = torch.tensor([1.0, bad]), torch.tensor([2.0])
    ours, theirs = with_gradients(*gradients), with_gradients(*gradients)
    with pytest.raises(RuntimeError, match=f"total norm of order 2.0 is {bad}, so gradients cannot be clipped"):
        clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    assert ours[1].grad.item() == 2.0
    norm = clip_grad_norm_(ours, 1.0)
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, 1.0), equal_nan=True)
    for own, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, its.grad, equal_nan=True)


@pytest.mark.parametrize("norm_type", [0, -1.0, -math.inf, math.nan])
def test_an_impossible_norm_is_refused(norm_type):
    with pytest.raises(ValueError, match="expected a positive number, or inf"):
        clip_grad_norm_(with_gradients(torch.ones(2)), 1.0, norm_type)


@pytest.mark.parametrize("norm_type", [1, 2, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_inside_plain_it_is_the_same(norm_type, max_norm):
    gradients = torch.linspace(-2, 3, 12).double().view(3, 4), torch.linspace(-1, 1, 5000).double(), torch.zeros(0)
    fast, slow = with_gradients(*gradients, None), with_gradients(*gradients, None)
    norm = clip_grad_norm_(fast, max_norm, norm_type)
    with plain(), primitives_only():
        torch.testing.assert_close(clip_grad_norm_(slow, max_norm, norm_type), norm, rtol=1e-12, atol=0)
    for own, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-12, atol=0)


def test_clip_value_like_torch():
    gradients = torch.linspace(-3, 3, 11), torch.tensor([math.nan, math.inf, -math.inf])
    ours, theirs = with_gradients(*gradients, None), with_gradients(*gradients, None)
    with primitives_only():
        clip_grad_value_(ours, 0.5)
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    for own, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own.grad, its.grad, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("norm_type", [1, 2, math.inf])
def test_a_gradient_of_no_numbers_has_no_norm(norm_type):
    assert float(get_total_norm([torch.zeros(0)], norm_type)) == 0
    assert float(get_total_norm([torch.zeros(0, dtype=torch.float64), torch.tensor([-3.0])], norm_type)) == 3


@pytest.mark.parametrize("switch", [nullcontext, plain])
def test_half_precision_is_summed_in_float32(switch):
    gradient = torch.full((1000,), 300.0, dtype=torch.float16)  # the sum of squares is beyond float16
    with switch():
        assert get_total_norm([gradient]).item() == pytest.approx(300 * 1000**0.5)


def scaled(factor, dtype):
    """Two gradients whose numbers are about `factor`, and their 2-norm, 1-norm and largest number, computed exactly."""
    numbers = [[3.0, -4.0, 0.0], [12.0]]
    gradients = [(torch.tensor(row, dtype=torch.float64) * factor).to(dtype) for row in numbers]
    exact = [abs(number) for gradient in gradients for number in gradient.tolist()]
    return gradients, {2: math.hypot(*exact), 1: math.fsum(exact), math.inf: max(exact)}


RANGES = {
    torch.float64: [1e-300, 1e-200, 1e200, 1e306],
    torch.float32: [1e-37, 1e-30, 1e-22, 1e18, 1e25, 1e37],
    torch.bfloat16: [1e-37, 1e-22, 1e25, 1e37],
    torch.float16: [1e-4, 1e3, 5e3],
}


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("switch", [nullcontext, plain])
def test_a_norm_is_finite_as_long_as_its_dtype_can_hold_it(dtype, switch):
    for factor in RANGES[dtype]:
        gradients, exact = scaled(factor, dtype)
        for order, norm in exact.items():
            with switch(), primitives_only():
                assert float(get_total_norm(gradients, order)) == pytest.approx(norm, rel=1e-6), (factor, order)
        with switch(), primitives_only():
            # of powers as high as that, every number above 1 would be infinite, and every number below it 0
            assert float(get_total_norm(gradients, 500)) == pytest.approx(exact[math.inf], rel=1e-5)


@pytest.mark.parametrize("factor", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("norm_type", [1, 2, 3.5, math.inf])
def test_large_and_small_gradients_are_clipped_compiled_too(factor, norm_type):
    gradients, _ = scaled(factor, torch.float32)
    eager, compiled = with_gradients(*gradients), with_gradients(*gradients)
    limit = factor  # which the norm is above
    norm = clip_grad_norm_(eager, limit, norm_type)
    torch.compiler.reset()  # numbers that differ from a call before would be taken for ones that change
    graph = torch.compile(clip_grad_norm_, fullgraph=True, backend="eager")
    torch.testing.assert_close(graph(compiled, limit, norm_type), norm)
    for own, its in zip(eager, compiled, strict=True):
        torch.testing.assert_close(own.grad, its.grad, rtol=1e-5, atol=0)
    if factor >= 1:  # 1e-6 is added to the norm before it divides
        assert float(get_total_norm([p.grad for p in eager], norm_type)) == pytest.approx(limit, rel=1e-5)


def test_a_norm_that_float32_cannot_hold_is_infinite():
    assert float(get_total_norm([torch.full((2,), 3e38)])) == math.inf
    assert float(get_total_norm([torch.full((1,), 3e38)])) == pytest.approx(3e38)
