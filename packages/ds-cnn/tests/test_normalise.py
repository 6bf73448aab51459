"""Channels to mean 0 and variance 1: learned in one pass, stored, applied."""

import pytest
import torch
from ds_cnn import Normalise
from ds_core import ShapeError, UserError
from ds_core.data import Loader
from ds_core.errors import WriteError
from hypothesis import given, settings
from hypothesis import strategies as st


def images(count=50, channels=3, seed=0):
    return torch.randint(256, (count, channels, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_worked_example():
    x = torch.tensor([[0, 2], [4, 6]], dtype=torch.uint8).view(1, 1, 2, 2)
    normalise = Normalise.fit(x)
    assert normalise.mean == (3.0,)
    assert normalise.std == pytest.approx((2.236,), abs=5e-4)
    expected = torch.tensor([[-1.342, -0.447], [0.447, 1.342]])
    torch.testing.assert_close(normalise(x)[0, 0], expected, atol=5e-4, rtol=0)
    # in two batches: means 1 and 5, sums of squares 2 and 2, and 2 * 2 / 4 * (5 - 1)^2 = 16 between them
    halves = Normalise.fit([x[:, :, :1], x[:, :, 1:]])
    assert halves.mean == normalise.mean
    assert halves.std == pytest.approx((((2 + 2 + 16) / 4) ** 0.5,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_against_torch(dtype):
    x = images().to(dtype) / 255
    normalise = Normalise.fit(x)
    std, mean = torch.std_mean(x.double(), (0, 2, 3), correction=0)
    assert normalise.mean == pytest.approx(mean.tolist(), rel=1e-12)
    assert normalise.std == pytest.approx(std.tolist(), rel=1e-12)
    y = normalise(x)
    assert y.dtype == dtype
    assert y.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(3, dtype=dtype))
    assert torch.equal(normalise(x[7]), y[7])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
@settings(deadline=None, max_examples=30)
def test_batches_of_any_length_are_the_whole(lengths):
    x = images(sum(lengths))
    whole, parts = Normalise.fit(x), Normalise.fit(iter(x.split(lengths)))
    assert parts.mean == pytest.approx(whole.mean, rel=1e-12)
    assert parts.std == pytest.approx(whole.std, rel=1e-12)


def test_large_data_is_seen_in_parts(monkeypatch):
    x = images(60)
    whole = Normalise.fit(x)
    monkeypatch.setattr("ds_cnn.images.normalise._CHUNK", 7 * 60)
    parts = Normalise.fit(x)
    assert parts.mean == pytest.approx(whole.mean, rel=1e-12)
    assert parts.std == pytest.approx(whole.std, rel=1e-12)
    loader = Loader((x, torch.zeros(60)), 13)
    drawn = Normalise.fit(images for images, _ in loader.epoch(0))
    assert drawn.mean == pytest.approx(whole.mean, rel=1e-12)


def test_a_large_mean_costs_no_digits():
    x = torch.randn(100, 1, 8, 8, dtype=torch.float64)
    assert Normalise.fit(x + 1e8).std == pytest.approx(Normalise.fit(x).std, rel=1e-6)


def test_a_channel_of_one_value_becomes_zero():
    x = images()
    x[:, 1] = 7
    normalise = Normalise.fit(x)
    assert normalise.std[1] == 1
    assert normalise(x)[:, 1].unique().tolist() == [0]
    assert Normalise.fit(torch.full((10, 1, 3, 3), 0.1)).std == (1.0,)


def test_the_dtype_of_the_result():
    x = images()
    normalise = Normalise.fit(x, dtype=torch.bfloat16)
    assert normalise(x).dtype == normalise(x.double()).dtype == torch.bfloat16
    assert Normalise.fit(x)(x).dtype == torch.get_default_dtype()


def test_stored_and_read_bit_for_bit(tmp_path):
    normalise = Normalise.fit(images())
    normalise.save(tmp_path / "normalise.json")
    again = Normalise.load(tmp_path / "normalise.json", dtype=torch.float64)
    assert (again.mean, again.std, again.dtype) == (normalise.mean, normalise.std, torch.float64)
    with pytest.raises(WriteError, match="cannot write"):
        normalise.save(tmp_path / "gone" / "normalise.json")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"mean": [1]}',
        '{"mean": [1], "std": [0]}',
        '{"mean": [1], "std": ["x"]}',
        '{"mean": 1, "std": 1}',
        "\udcff",
    ],
)
def test_a_file_that_is_not_as_it_should_be(tmp_path, content):
    path = tmp_path / "normalise.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"normalise\.json does not hold the mean and std of channels"):
        Normalise.load(path)
    with pytest.raises(UserError, match=r"cannot read .*gone: No such file"):
        Normalise.load(tmp_path / "gone")


@pytest.mark.parametrize(
    ("mean", "std"),
    [([], []), ([1], [1, 2]), ([1], [0]), ([1], [-1]), ([float("nan")], [1]), ([0], [float("inf")])],
)
def test_numbers_that_do_not_fit(mean, std):
    with pytest.raises(ValueError, match="Normalise: given mean="):
        Normalise(mean, std)


def test_images_that_do_not_fit():
    normalise = Normalise([1, 2, 3], [1, 1, 1])
    for shape in [(2, 1, 4, 4), (4, 4), (3,), (1, 2, 3, 4, 5)]:
        with pytest.raises(ShapeError, match=r"Normalise: given shape .*expected \(N, 3, H, W\) or \(3, H, W\)"):
            normalise(torch.zeros(shape))
    with pytest.raises(ShapeError, match="no images"):
        Normalise.fit(torch.zeros(0, 3, 4, 4))
    with pytest.raises(ShapeError, match="no images"):
        Normalise.fit([])
    with pytest.raises(ShapeError, match=r"given shape \(3, 4, 4\)"):
        Normalise.fit(torch.zeros(3, 4, 4))
    with pytest.raises(ShapeError, match="given 1 channels after 3"):
        Normalise.fit([torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4)])
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="infinite numbers or NaN"):
            Normalise.fit(torch.full((1, 1, 2, 2), bad))
