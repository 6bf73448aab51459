"""The scalers against scikit-learn's."""

import math

import pytest
import torch
from ds_core import ShapeError, StateDictError
from ds_core.data import MinMax, Standardise
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, StandardScaler

PAIRS = [
    (Standardise, StandardScaler, ()),
    (MinMax, MinMaxScaler, ()),
    (MinMax, MinMaxScaler, (-3.0, 0.5)),
]


def pair(ours, theirs, options):
    return ours(*options), theirs(options) if options else theirs()


def test_worked_example():
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]])
    standardise = Standardise()
    y = standardise.fit_transform(x)
    assert standardise.offset.tolist() == pytest.approx([4.0, 5.0])
    assert standardise.scale.tolist() == pytest.approx([2.9439, 1.0], abs=5e-5)
    assert y.T.tolist() == [pytest.approx([-1.0190, -0.3397, 1.3587], abs=5e-5), [0, 0, 0]]
    assert standardise.transform(torch.tensor([[10.0, 6.0]])).tolist() == [pytest.approx([2.0381, 1.0], abs=5e-5)]
    low_high = MinMax(-1, 1)
    assert low_high.fit_transform(x).T.tolist() == [pytest.approx([-1.0, -0.4286, 1.0], abs=5e-5), [-1, -1, -1]]
    assert low_high.transform(torch.tensor([[10.0, 6.0]])).tolist() == [pytest.approx([1.5714, 1.0], abs=5e-5)]


@pytest.mark.parametrize(("ours", "theirs", "options"), PAIRS)
@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 4),
    shift=st.sampled_from([0.0, 1e3, -1e9, 1e-9]),
    scale=st.sampled_from([1.0, 1e-3, 1e6, 0.0]),
    seed=st.integers(0, 99),
)
def test_as_scikit_learn(ours, theirs, options, rows, columns, shift, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale + shift
    new = torch.randn(4, columns, generator=generator, dtype=torch.float64) * scale + shift
    mine, twin = pair(ours, theirs, options)
    assert mine.fit(x) is mine
    twin.fit(x.numpy())
    # in units of the spread: what rounding of a large shift leaves there
    spread = max(scale, 1e-12)
    tolerance = 1e-9 + 1e-12 * abs(shift) / spread if scale else 1e-9 + 1e-12 * abs(shift)
    for data in (x, new):
        expected = torch.from_numpy(twin.transform(data.numpy()))
        torch.testing.assert_close(mine.transform(data), expected, rtol=1e-9, atol=tolerance)
        torch.testing.assert_close(mine.inverse_transform(expected), data, rtol=1e-9, atol=1e-9 * (scale + abs(shift)))


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e9 + 0.1, 1e-300])
@pytest.mark.parametrize(("ours", "theirs", "options"), PAIRS)
def test_a_constant_column(ours, theirs, options, value):
    x = torch.stack([torch.full((7,), value, dtype=torch.float64), torch.arange(7.0, dtype=torch.float64)], 1)
    mine, twin = pair(ours, theirs, options)
    found, expected = mine.fit_transform(x), torch.from_numpy(twin.fit_transform(x.numpy()))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 + 1e-15 * abs(value))
    assert mine.scale[0] == 1
    torch.testing.assert_close(mine.inverse_transform(found), x)


@pytest.mark.parametrize("mean", [1.0, -1.0, 1000.0, 0.001])
@pytest.mark.parametrize("steps", [1, 3, 30, 300])
@pytest.mark.parametrize("rows", [4, 50])
def test_rounding_is_not_taken_for_a_spread(mean, steps, rows):
    """Values that differ by a few of the last digits are one value where scikit-learn says so."""
    x = mean + steps * math.ulp(mean) * (torch.arange(rows, dtype=torch.float64) % 2)[:, None]
    mine, twin = Standardise().fit(x), StandardScaler().fit(x.numpy())
    torch.testing.assert_close(mine.scale, torch.from_numpy(twin.scale_))
    assert (mine.scale == 1) == (steps * math.ulp(mean) / 2 <= rows * abs(mean) * torch.finfo(torch.float64).eps)


@pytest.mark.parametrize("width", [0.5, 9.0, 10.5, 40.0])
def test_a_width_that_scikit_learn_takes_for_none(width):
    x = torch.tensor([[0.0], [width * torch.finfo(torch.float64).eps]], dtype=torch.float64)
    found = MinMax().fit_transform(x)
    torch.testing.assert_close(found, torch.from_numpy(MinMaxScaler().fit_transform(x.numpy())), rtol=1e-12, atol=0)
    assert (found.max() == 1) == (width > 10)


def test_mean_and_variance_far_from_zero():
    x = 1e8 + torch.arange(11, dtype=torch.float64)[:, None]
    y = Standardise().fit_transform(x)
    assert y.mean().item() == pytest.approx(0, abs=1e-12)
    assert y.square().mean().item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("scaler", [Standardise, MinMax])
def test_results_are_calculated_in_float64_and_rounded_once(scaler, dtype):
    x = torch.randint(0, 200, (30, 2), generator=torch.Generator().manual_seed(0)).to(dtype)
    found = scaler().fit_transform(x)
    expected_dtype = dtype if dtype.is_floating_point else torch.float32
    assert found.dtype == expected_dtype
    assert torch.equal(found, scaler().fit_transform(x.double()).to(expected_dtype))
    back = scaler().fit(x)
    assert back.inverse_transform(back.transform(x)).dtype == expected_dtype


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 2, 3)])
@pytest.mark.parametrize("scaler", [Standardise, MinMax])
def test_any_number_of_dimensions(scaler, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flat = scaler().fit_transform(x.reshape(6, -1))
    assert torch.equal(scaler().fit_transform(x), flat.reshape(shape))


@pytest.mark.parametrize("scaler", [Standardise, MinMax])
def test_the_state_is_all_there_is(scaler):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    fitted, loaded = scaler().fit(x), scaler()
    assert loaded.state_dict() == {}
    state = fitted.state_dict()
    loaded.load_state_dict(state)
    assert torch.equal(loaded.transform(x), fitted.transform(x))
    state["offset"].add_(1)
    assert not torch.equal(loaded.offset, state["offset"])  # a copy
    for wrong in ({}, {"offset": state["offset"]}, {**state, "more": x}, {**state, "scale": torch.ones(2)}):
        with pytest.raises(StateDictError, match="expected offset and scale of one shape"):
            loaded.load_state_dict(wrong)
    assert loaded.scale.shape == (3,)


def test_the_input_is_left_as_it_was():
    x = torch.randn(5, 3, dtype=torch.float64)
    before = x.clone()
    for scaler in (Standardise(), MinMax()):
        scaler.inverse_transform(scaler.fit_transform(x))
    assert torch.equal(x, before)


def test_what_cannot_be_scaled():
    with pytest.raises(ValueError, match="Standardise: call fit before"):
        Standardise().transform(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="MinMax: call fit before"):
        MinMax().inverse_transform(torch.zeros(2, 2))
    for bad in (torch.zeros(0, 2), torch.tensor(1.0)):
        with pytest.raises(ShapeError, match="expected at least one row"):
            MinMax().fit(bad)
    for bad in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="expected finite ones"):
            Standardise().fit(torch.tensor([[1.0], [bad]]))
    with pytest.raises(ShapeError, match=r"MinMax: given shape \(4, 3\), expected \(N, 2\)"):
        MinMax().fit(torch.zeros(2, 2)).transform(torch.zeros(4, 3))
    with pytest.raises(ShapeError, match=r"given shape \(\), expected \(N\)"):
        MinMax().fit(torch.zeros(2)).transform(torch.tensor(1.0))
    for low, high in ((1, 1), (2, 1), (float("nan"), 1)):
        with pytest.raises(ValueError, match="expected low < high"):
            MinMax(low, high)
