"""What initializers promise of the weights they draw, and of the signals that go through them."""

import itertools
import math

import pytest
import scipy.stats
import torch
from ds_core.initializers import (
    calculate_gain,
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lecun_uniform_,
    normal_,
    orthogonal_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
)
from ds_core.initializers.variance_scaling import fans
from hypothesis import given, settings
from hypothesis import strategies as st

SIGNIFICANCE = 1e-3  # of each test; seeds are fixed, so that what passes once passes always


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_worked_example():
    weight = torch.empty(4, 2, 3, 3)
    assert fans(weight) == (18, 36)
    assert math.sqrt(2 / 18) == pytest.approx(0.3333, abs=5e-5)
    assert math.sqrt(3) * math.sqrt(2 / 18) == pytest.approx(0.5774, abs=5e-5)
    assert math.sqrt(2 / (18 + 36)) == pytest.approx(0.1925, abs=5e-5)
    assert math.sqrt(1 / 18) == pytest.approx(0.2357, abs=5e-5)
    assert kaiming_uniform_(weight, nonlinearity="relu", generator=seeded(0)).abs().max() <= 0.5774
    assert kaiming_uniform_(weight, nonlinearity="relu", generator=seeded(0)).abs().max() > 0.56
    # through 20 layers a variance that is off by 1/2 each time is 2^-20 = 9.5367e-07 of itself
    assert pytest.approx([0.9537], abs=5e-5) == [0.5**20 * 1e6]
    # Gram-Schmidt on the columns (3, 4) and (1, 0)
    q, r = torch.linalg.qr(torch.tensor([[3.0, 1.0], [4.0, 0.0]]))
    torch.testing.assert_close(q * r.diagonal().sign(), torch.tensor([[0.6, 0.8], [0.8, -0.6]]))
    torch.testing.assert_close(r * r.diagonal().sign().unsqueeze(1), torch.tensor([[5.0, 0.6], [0.0, 0.8]]))
    # a normal variable between -1 and 1
    density, inside = math.exp(-0.5) / math.sqrt(2 * math.pi), math.erf(1 / math.sqrt(2))
    assert [density, inside] == pytest.approx([0.2420, 0.6827], abs=5e-5)
    assert 1 - 2 * density / inside == pytest.approx(0.2911, abs=5e-5)
    assert math.sqrt(1 - 2 * density / inside) == pytest.approx(0.5396, abs=5e-5)
    drawn = trunc_normal_(torch.empty(100_000, dtype=torch.float64), a=-1, b=1, generator=seeded(0))
    assert drawn.std().item() == pytest.approx(0.5396, abs=0.003)


@pytest.mark.parametrize(
    ("fill", "variance"),
    [
        (xavier_uniform_, lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        (xavier_normal_, lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        (lambda w, generator: xavier_normal_(w, 5 / 3, generator), lambda i, o: 25 / 9 * 2 / (i + o)),
        (kaiming_uniform_, lambda fan_in, fan_out: 2 / fan_in),
        (kaiming_normal_, lambda fan_in, fan_out: 2 / fan_in),
        (lambda w, generator: kaiming_normal_(w, 0.5, "fan_out", generator=generator), lambda i, o: 2 / 1.25 / o),
        (lecun_uniform_, lambda fan_in, fan_out: 1 / fan_in),
        (lecun_normal_, lambda fan_in, fan_out: 1 / fan_in),
    ],
)
@pytest.mark.parametrize("shape", [(300, 100), (64, 32, 3, 5)])
def test_mean_and_variance(fill, variance, shape):
    """Within the error of a sample: the mean of n numbers and of their squares is normal for large n."""
    weight = torch.empty(shape, dtype=torch.float64)
    fill(weight, generator=seeded(1))
    expected = variance(*fans(weight))
    count = weight.numel()
    squares = weight.square()
    limit = scipy.stats.norm.isf(SIGNIFICANCE / 2)
    assert abs(weight.mean().item()) < limit * math.sqrt(expected / count)
    assert abs(squares.mean().item() - expected) < limit * squares.std().item() / math.sqrt(count)


@pytest.mark.parametrize(
    ("fill", "distribution"),
    [
        (lambda w: uniform_(w, -2, 3, seeded(0)), scipy.stats.uniform(-2, 5)),
        (lambda w: normal_(w, 1, 0.5, seeded(0)), scipy.stats.norm(1, 0.5)),
        (lambda w: trunc_normal_(w, generator=seeded(0)), scipy.stats.truncnorm(-2, 2)),
        (lambda w: trunc_normal_(w, 1, 2, -1, 2, seeded(0)), scipy.stats.truncnorm(-1, 0.5, 1, 2)),
        (lambda w: trunc_normal_(w, 0, 1, 1.5, 4, seeded(0)), scipy.stats.truncnorm(1.5, 4)),
        (lambda w: trunc_normal_(w, 0, 1, -0.2, 0.1, seeded(0)), scipy.stats.truncnorm(-0.2, 0.1)),
        (lambda w: trunc_normal_(w, 3, 0.5, -1, 1.5, seeded(0)), scipy.stats.truncnorm(-8, -3, 3, 0.5)),
        (lambda w: xavier_uniform_(w, generator=seeded(0)), scipy.stats.uniform(-0.1, 0.2)),
        (lambda w: kaiming_normal_(w, generator=seeded(0)), scipy.stats.norm(0, 0.1)),
    ],
)
def test_distributions(fill, distribution):
    """Kolmogorov and Smirnov's test of 80 000 numbers."""
    weight = fill(torch.empty(400, 200, dtype=torch.float64))
    assert scipy.stats.kstest(weight.numpy().ravel(), distribution.cdf).pvalue > SIGNIFICANCE


@given(
    mean=st.floats(-3, 3),
    std=st.floats(0.05, 3),
    low=st.floats(-4, 4),
    width=st.floats(0.01, 5),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(max_examples=30, deadline=None)
def test_truncated_numbers_are_within_their_bounds(mean, std, low, width, dtype):
    if max(low - mean, mean - low - width) > 6 * std:
        mean = low  # so far out almost every draw is refused
    weight = trunc_normal_(torch.empty(300, dtype=dtype), mean, std, low, low + width, seeded(0))
    bounds = torch.tensor([low, low + width]).to(dtype)
    assert bounds[0] <= weight.min()
    assert weight.max() <= bounds[1]


@given(rows=st.integers(1, 40), columns=st.integers(1, 20), kernel=st.integers(1, 3), gain=st.floats(0.1, 3))
@settings(max_examples=30, deadline=None)
def test_orthogonal_rows_or_columns(rows, columns, kernel, gain):
    weight = orthogonal_(torch.empty(rows, columns, kernel, dtype=torch.float64), gain, seeded(4)).reshape(rows, -1)
    fewer = weight if rows <= columns * kernel else weight.t()
    torch.testing.assert_close(
        fewer @ fewer.t() / gain**2, torch.eye(len(fewer), dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_orthogonal_matrices_are_all_equally_likely():
    """The trace of a random rotation has mean 0 and variance 1; without the signs of R it has not."""
    traces = torch.stack([orthogonal_(torch.empty(6, 6), generator=seeded(seed)).trace() for seed in range(2000)])
    limit = scipy.stats.norm.isf(SIGNIFICANCE / 2)
    assert abs(traces.mean().item()) < limit / math.sqrt(2000)
    assert traces.var().item() == pytest.approx(1, abs=limit * math.sqrt(2 / 2000))


def signal(fill, activation, layers=20, width=400, batch=400, seed=0):
    """The mean square of what goes into the first layer, and what comes out of the last."""
    generator = seeded(seed)
    x = torch.randn(batch, width, generator=generator, dtype=torch.float64)
    start = x.square().mean().item()
    for _ in range(layers):
        weight = torch.empty(width, width, dtype=torch.float64)
        fill(weight, generator)
        x = activation(x @ weight.t())
    return start, x


@pytest.mark.parametrize("fill", [kaiming_normal_, kaiming_uniform_, lecun_normal_])
def test_he_keeps_the_signal_through_20_layers_of_relu(fill):
    """In the mean over networks, for that of one varies much; LeCun's halves it in each layer."""
    ratios = []
    for seed in range(30):
        options = {} if fill is lecun_normal_ else {"nonlinearity": "relu"}
        start, x = signal(
            lambda w, generator, options=options: fill(w, generator=generator, **options),
            torch.relu,
            width=300,
            batch=8,
            seed=seed,
        )
        ratios.append(x.square().mean().item() / start)
    ratios = torch.tensor(ratios, dtype=torch.float64) * (2**20 if fill is lecun_normal_ else 1)
    error = (ratios.std() / math.sqrt(len(ratios))).item()
    assert error < 0.2
    assert abs(ratios.mean().item() - 1) < scipy.stats.norm.isf(SIGNIFICANCE / 2) * error


def test_he_keeps_the_gradient_through_20_layers_of_relu():
    """By fan_out, with layers that are not square."""
    widths = [200, 400] * 10 + [200]
    weights = [
        kaiming_normal_(
            torch.empty(o, i, dtype=torch.float64), mode="fan_out", nonlinearity="relu", generator=seeded(o + n)
        )
        for n, (i, o) in enumerate(itertools.pairwise(widths))
    ]
    x = torch.randn(400, 200, generator=seeded(100), dtype=torch.float64, requires_grad=True)
    y = x
    for weight in weights:
        y = torch.relu(y @ weight.t())
    dy = torch.randn(y.shape, generator=seeded(101), dtype=torch.float64)
    (dx,) = torch.autograd.grad(y, x, dy)
    assert 0.5 < (dx.square().mean() / dy.square().mean()).item() < 2


@pytest.mark.parametrize("fill", [xavier_normal_, xavier_uniform_])
def test_xavier_keeps_the_signal_through_20_layers_of_tanh(fill):
    gain = calculate_gain("tanh")
    _, x = signal(lambda w, generator: fill(w, gain, generator), torch.tanh, layers=20)
    _, before = signal(lambda w, generator: fill(w, gain, generator), torch.tanh, layers=10)
    assert x.square().mean().item() == pytest.approx(before.square().mean().item(), rel=0.1)
    assert 0.3 < x.square().mean().item() < 0.6
    _, faded = signal(lambda w, generator: fill(w, 1.0, generator), torch.tanh)
    assert faded.square().mean().item() < 0.1


@pytest.mark.parametrize("fill", [lecun_normal_, lecun_uniform_])
def test_lecun_and_selu_have_mean_0_and_variance_1_after_20_layers(fill):
    _, x = signal(fill, torch.nn.functional.selu)
    assert abs(x.mean().item()) < 0.1
    assert x.var().item() == pytest.approx(1, abs=0.15)


def test_orthogonal_layers_keep_every_length():
    start, x = signal(lambda w, generator: orthogonal_(w, 1, generator), lambda x: x, layers=20, width=50)
    assert x.square().mean().item() == pytest.approx(start, rel=1e-12)
