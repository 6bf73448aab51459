import math

import numpy as np
import pytest
import torch
from ds_core import Adam, Lion, plain, primitives_only
from ds_core.testing import check_optimizer
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_checks import close, example, grid, like_eager_when_compiled, some_betas

OPTIONS = grid(
    lr=[0.01, torch.tensor(0.01, dtype=torch.float64)],
    betas=[(0.9, 0.99), (0.5, 0.0), (0.0, 0.7)],
    weight_decay=[0, 0.3],
    maximize=[False, True],
)


def test_worked_example():
    (first, state), (second, last) = example(lambda p: Lion(p, lr=0.1, betas=(0.5, 0.9), weight_decay=0.2))
    close(state["exp_avg"], [[0.05, -0.2], [0.0, 1.0]])
    close(first, [[0.88, -1.86], [0.49, 3.82]])
    close([0.5 * 0.05 + 0.5 * 1.5, 0.5 * 1.0 - 0.5 * 10.0], [0.775, -4.5])
    close(last["exp_avg"], [[0.195, -0.38], [0.0, -0.1]])
    close(second, [[0.7624, -1.7228], [0.4802, 3.8436]])


def lion_of_the_paper(theta, gradients, eta=1e-4, beta1=0.9, beta2=0.99, decay=0.0):
    """Chen et al. (2023), algorithm 2, line by line: the judge, since PyTorch has no twin."""
    m = np.zeros_like(theta)
    for g in gradients:
        c = beta1 * m + (1 - beta1) * g
        theta = theta - eta * (np.sign(c) + decay * theta)
        m = beta2 * m + (1 - beta2) * g
    return theta


def like_transcription(transcription, make, steps=40, rtol=1e-12):
    """What NumPy makes in float64 of the algorithm as the paper states it, and what `make(parameters)` does."""
    random = np.random.default_rng(0)
    start = [random.normal(size=shape) for shape in ((3, 4), (5,))]
    gradients = [[random.normal(size=theta.shape) for _ in range(steps)] for theta in start]
    parameters = [torch.tensor(theta, requires_grad=True) for theta in start]
    optimizer = make(parameters)
    for step in range(steps):
        for parameter, walk in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(walk[step])
        optimizer.step()
    for parameter, theta, walk in zip(parameters, start, gradients, strict=True):
        np.testing.assert_allclose(parameter.detach(), transcription(theta, walk), rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_is_the_algorithm_of_the_paper(options, flat):
    beta1, beta2 = options["betas"]
    uphill = -1 if options["maximize"] else 1

    def paper(theta, gradients):
        decay = options["weight_decay"]
        return lion_of_the_paper(theta, [uphill * g for g in gradients], float(options["lr"]), beta1, beta2, decay)

    like_transcription(paper, lambda p: Lion(p, **options, flat=flat))


def test_defaults_are_the_papers():
    like_transcription(lion_of_the_paper, Lion)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    flat=st.booleans(),
    betas=some_betas,
    lr=st.floats(1e-6, 2),
)
def test_every_number_moves_by_the_learning_rate_or_not_at_all(shape, dtype, flat, betas, lr):
    parameters = [torch.zeros(shape, dtype=dtype, requires_grad=True) for _ in range(3)]
    optimizer = Lion(parameters, lr=lr, betas=betas, flat=flat)
    for step in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn(shape, generator=torch.Generator().manual_seed(step)).to(dtype)
            parameter.data.zero_()
        with primitives_only():
            optimizer.step()
        for parameter in parameters:
            assert parameter.dtype == dtype
            assert torch.isin(parameter.abs(), torch.tensor([0.0, lr], dtype=torch.float64).to(dtype)).all()


def test_its_own_state_may_be_taken_up_half_way():
    check_optimizer(
        lambda p: Lion(p, lr=0.01, weight_decay=0.1), lambda p: Lion(p, lr=0.01, weight_decay=0.1, flat=False)
    )


def test_where_there_was_no_gradient_nothing_moves():
    weight = torch.ones(2, requires_grad=True)
    optimizer = Lion([weight], lr=0.25)
    weight.grad = torch.tensor([0.0, 3.0])
    optimizer.step()
    with plain():
        optimizer.step()
    assert weight.tolist() == [1.0, 0.5]


def test_compiled_steps_are_the_eager_ones():
    like_eager_when_compiled(lambda p: Lion(p, lr=0.1, betas=(0.8, 0.7), weight_decay=0.1, maximize=True))


def test_decay_stays_decoupled_whatever_state_is_loaded():
    parameter = torch.zeros(2, requires_grad=True)
    optimizer = Lion([parameter], weight_decay=0.5)
    optimizer.load_state_dict(Adam([parameter], weight_decay=0.5).state_dict())
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": math.nan}, "Invalid learning rate: nan"),
        ({"lr": torch.tensor([0.1, 0.1])}, "Tensor lr must be 1-element"),
        ({"betas": (1.0, 0.0)}, "Invalid beta parameter at index 0: 1.0"),
        ({"betas": (0.9, math.nan)}, "Invalid beta parameter at index 1: nan"),
        ({"weight_decay": -1}, "Invalid weight_decay value: -1"),
        ({"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
    ],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Lion([torch.zeros(2, requires_grad=True)], **options)
    with pytest.raises(ValueError, match=message):  # in a group of its own too
        Lion([{"params": [torch.zeros(2, requires_grad=True)], **options}])


def test_no_parameters_and_complex_ones_are_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        Lion([])
    with pytest.raises(ValueError, match="complex parameters are not supported"):
        Lion([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
