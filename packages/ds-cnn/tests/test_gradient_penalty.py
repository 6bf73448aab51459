import random

import pytest
import torch
from ds_cnn import Conv1d, Conv2d, Conv3d, GradientPenalty
from ds_core import (
    Flatten,
    Identity,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    ShapeError,
    TraceError,
    Unflatten,
    plain,
    record,
)
from ds_core.testing import check_layer, one_graph

CONVOLUTIONS = {1: Conv1d, 2: Conv2d, 3: Conv3d}


def random_critic(draw, axes):
    """Ours, torch's with the same weights, and the size of its input; strides, paddings, groups and depth are drawn."""
    groups = draw.choice([1, 2])
    channels = inside = 2 * draw.randint(1, 2)
    size = shape = [draw.randint(5, 7 - axes // 3) for _ in range(axes)]
    ours, theirs = [], []
    for _ in range(draw.randint(1, 3 if axes < 3 else 1)):
        mode = draw.choice(["zeros", "reflect", "replicate", "circular"]) if axes < 3 else "zeros"
        out = 2 * draw.randint(1, 2)
        arguments = {
            "kernel_size": [draw.randint(1, 3) for _ in range(axes)],
            "stride": [draw.randint(1, 2) for _ in range(axes)],
            "padding": [draw.randint(0, 1) for _ in range(axes)],
            "dilation": draw.randint(1, 2),
            "groups": groups,
            "bias": draw.random() < 0.7,
            "padding_mode": mode,
        }
        window = zip(size, *[arguments[name] for name in ("kernel_size", "stride", "padding")], strict=True)
        after = [(s + 2 * p - arguments["dilation"] * (k - 1) - 1) // step + 1 for s, k, step, p in window]
        if min(after) < 2:  # at least 2, for the next layer's padding
            break
        ours.append(CONVOLUTIONS[axes](inside, out, **arguments))
        theirs.append(getattr(torch.nn, f"Conv{axes}d")(inside, out, **arguments))
        slope = draw.choice([None, 0.2, -0.5, 1.5])
        ours.append(ReLU() if slope is None else LeakyReLU(slope))
        theirs.append(torch.nn.ReLU() if slope is None else torch.nn.LeakyReLU(slope))
        size, inside = after, out
    features = inside * torch.Size(size).numel()
    ours += [Flatten(), Linear(features, 3), LeakyReLU(0.1), Linear(3, 1)]
    theirs += [
        torch.nn.Flatten(),
        torch.nn.Linear(features, 3),
        torch.nn.LeakyReLU(0.1),
        torch.nn.Linear(3, 1),
    ]
    ours, theirs = Sequential(*ours).double(), torch.nn.Sequential(*theirs).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, (channels, *shape)


def of_autograd(critic, x, dpenalties=None):
    """Penalties and gradients of the parameters by autograd's double backward."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    penalties = (gradient.flatten(1).norm(2, dim=1) - 1) ** 2
    dpenalties = torch.full_like(penalties, 1 / len(x)) if dpenalties is None else dpenalties
    names, parameters = zip(*critic.named_parameters(), strict=True)
    found = torch.autograd.grad(penalties, parameters, dpenalties, allow_unused=True)
    return penalties.detach(), dict(zip(names, found, strict=True))


def by_hand(critic, x, dpenalties=None):
    critic.zero_grad()
    penalty = GradientPenalty(critic)
    with record():
        penalties = penalty(x)
        dpenalties = torch.full_like(penalties, 1 / len(x)) if dpenalties is None else dpenalties
        penalty.backward(dpenalties)
    return penalties, {name: parameter.grad for name, parameter in critic.named_parameters()}


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], rtol=1e-11, atol=1e-12)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        ours = found[1][name]
        if name.endswith("bias"):
            assert ours is None
            assert gradient is None or not gradient.any()
        else:
            torch.testing.assert_close(ours, gradient, rtol=1e-10, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize(
    ("axes", "case"), [(1, n) for n in range(8)] + [(2, n) for n in range(24)] + [(3, n) for n in range(4)]
)
def test_random_critics_against_double_backward(axes, case):
    draw = random.Random(f"{axes} {case}")
    torch.manual_seed(draw.randint(0, 10**6))
    ours, theirs, shape = random_critic(draw, axes)
    x = torch.randn(draw.choice([1, 2, 4]), *shape, dtype=torch.float64)
    dpenalties = torch.randn(len(x), dtype=torch.float64)
    assert_same(by_hand(ours, x, dpenalties), of_autograd(theirs, x, dpenalties))


def test_layer():
    """Handwritten = autograd of our forward = finite differences, primitives only, and the rest of `check_layer`."""
    critic = Sequential(
        Unflatten(1, (2, 4, 4)),
        Sequential(Conv2d(2, 2, 3, 2, 1, groups=2), LeakyReLU(0.2)),
        Identity(),
        Conv2d(2, 3, 2, padding=1, padding_mode="reflect"),
        ReLU(),
        Flatten(),
        Linear(27, 1),
    )
    check_layer(GradientPenalty(critic), torch.randn(2, 32), samples=4)


def test_loops_and_plain_forms():
    torch.manual_seed(1)
    fast = Sequential(Conv2d(1, 2, 2, 2), LeakyReLU(0.2), Flatten(), Linear(8, 1)).double()
    loops = Sequential(Conv2d(1, 2, 2, 2, implementation="loops"), LeakyReLU(0.2), Flatten(), Linear(8, 1)).double()
    loops.load_state_dict(fast.state_dict())
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    expected = by_hand(fast, x)
    assert_same(by_hand(loops, x), expected)
    with plain():
        assert_same(by_hand(fast, x), expected)


def test_worked_example():
    critic = Sequential(Linear(2, 2), LeakyReLU(0.5), Linear(2, 1)).double()
    with torch.no_grad():
        for tensor, value in zip(critic.parameters(), [[[1, 2], [2, 2]], [0, -5], [[1, 2]], [0]], strict=True):
            tensor.copy_(torch.tensor(value))
    x = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    u = critic[0].weight.detach() @ torch.tensor([4.8, 6.4], dtype=torch.float64)
    assert u.tolist() == pytest.approx([4.8 + 12.8, 9.6 + 12.8])
    assert u.tolist() == pytest.approx([17.6, 22.4])
    assert pytest.approx(17.6) == 2 * 4 * 2.2
    penalties, gradients = by_hand(critic, x, torch.ones(1, dtype=torch.float64))
    assert penalties.tolist() == pytest.approx([16.0])
    assert gradients["0.weight"].tolist() == [pytest.approx([4.8, 6.4]), pytest.approx([4.8, 6.4])]
    assert gradients["2.weight"].tolist() == [pytest.approx([17.6, 11.2])]
    assert gradients["0.bias"] is None
    assert gradients["2.bias"] is None
    assert_same((penalties, gradients), of_autograd(_as_torch_critic(critic), x, torch.ones(1, dtype=torch.float64)))


def _as_torch_critic(critic):
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LeakyReLU(0.5), torch.nn.Linear(2, 1)).double()
    theirs.load_state_dict(critic.state_dict())
    return theirs


def test_gradient_of_length_zero():
    """One row on the flat side of the rectifier, one not: the first has penalty 1 and moves nothing."""
    critic = Sequential(Linear(2, 1, bias=False), ReLU(), Linear(1, 1)).double()
    with torch.no_grad():
        critic[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
        critic[2].weight.fill_(2.0)
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.ReLU(), torch.nn.Linear(1, 1)).double()
    theirs.load_state_dict(critic.state_dict())
    flat, steep = torch.tensor([[-1.0, -1.0]]).double(), torch.tensor([[1.0, 1.0]]).double()
    penalties, gradients = by_hand(critic, flat)
    assert penalties.tolist() == [1.0]
    assert all(not gradient.any() for gradient in gradients.values() if gradient is not None)
    both = torch.cat([flat, steep])
    assert by_hand(critic, both)[0].tolist() == pytest.approx([1.0, 81.0])
    assert_same(by_hand(critic, both), of_autograd(theirs, both))
    by_autograd = GradientPenalty(critic)(both)  # our forward, differentiated by PyTorch, is finite too
    slopes = torch.autograd.grad(by_autograd.mean(), [critic[0].weight, critic[2].weight])
    for slope, name in zip(slopes, ["0.weight", "2.weight"], strict=True):
        torch.testing.assert_close(slope, by_hand(critic, both)[1][name])


def test_the_penalty_adds_to_other_gradients():
    torch.manual_seed(2)
    critic = Sequential(Linear(3, 4), LeakyReLU(0.2), Linear(4, 1)).double()
    x, penalty = torch.randn(5, 3, dtype=torch.float64), GradientPenalty(critic)
    alone = by_hand(critic, x)[1]
    critic.zero_grad()
    with record():
        f = critic(x)
        critic.backward(torch.ones_like(f))
        before = {name: parameter.grad.clone() for name, parameter in critic.named_parameters()}
        rows = penalty(x)
        penalty.backward(torch.full_like(rows, 1 / len(rows)))
    for name, parameter in critic.named_parameters():
        expected = before[name] if alone[name] is None else before[name] + alone[name]
        torch.testing.assert_close(parameter.grad, expected)


def test_frozen_weights_get_nothing():
    critic = Sequential(Linear(3, 4), LeakyReLU(0.2), Linear(4, 1)).double()
    critic[0].requires_grad_(False)
    gradients = by_hand(critic, torch.randn(2, 3, dtype=torch.float64))[1]
    assert gradients["0.weight"] is None
    assert gradients["2.weight"] is not None


def test_dx_is_zero():
    critic = Sequential(Linear(3, 4), LeakyReLU(0.2), Linear(4, 1))
    penalty, x = GradientPenalty(critic), torch.randn(2, 3)
    with record():
        dx = penalty.backward(torch.ones_like(penalty(x)))
    assert dx.shape == x.shape
    assert not dx.any()
    with record():
        assert penalty.backward(torch.ones_like(penalty(x)), input_gradient=False) is None
    with record():
        penalty(x)
        assert penalty.backward(None) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_is_kept(dtype):
    torch.manual_seed(3)
    critic = Sequential(Conv2d(1, 4, 4, 2, 1), LeakyReLU(0.2), Flatten(), Linear(64, 1))
    x = torch.randn(8, 1, 8, 8)
    expected = by_hand(critic.double(), x.double())
    penalties, gradients = by_hand(critic.to(dtype), x.to(dtype))
    tolerance = 0.1 if dtype == torch.bfloat16 else 1e-4
    assert penalties.dtype == dtype
    torch.testing.assert_close(penalties.double(), expected[0], rtol=tolerance, atol=tolerance)
    for name in ("0.weight", "3.weight"):
        assert gradients[name].dtype == dtype
        scale = float(expected[1][name].abs().max())
        torch.testing.assert_close(gradients[name].double(), expected[1][name], rtol=0, atol=tolerance * scale)


def test_bad_input():
    penalty = GradientPenalty(Sequential(Linear(3, 2)))
    with pytest.raises(ShapeError, match=r"makes \(4, 2\) of an input \(4, 3\), expected one number for each row"):
        penalty(torch.randn(4, 3))
    with pytest.raises(ShapeError, match=r"gradient penalty: given input in torch\.int64"):
        penalty(torch.ones(4, 3, dtype=torch.int64))


def test_a_weight_changed_before_backward_is_noticed():
    critic = Sequential(Linear(3, 1))
    penalty = GradientPenalty(critic)

    def step():
        with record():
            rows = penalty(torch.randn(2, 3))
            with torch.no_grad():
                critic[0].weight.add_(1)
            penalty.backward(torch.ones_like(rows))

    with pytest.raises(TraceError, match="changed in place"):
        step()


def test_compiles_whole():
    critic = Sequential(Flatten(), Linear(4, 3), LeakyReLU(0.2), Linear(3, 1))
    penalty, x = GradientPenalty(critic), torch.randn(2, 1, 2, 2)

    def step(x):
        with record():
            rows = penalty(x)
            penalty.backward(torch.ones_like(rows))
        return rows

    expected = step(x), critic[1].weight.grad
    critic.zero_grad()
    torch.testing.assert_close((one_graph(step)(x), critic[1].weight.grad), expected)
