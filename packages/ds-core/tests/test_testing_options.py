"""check_layer: its options, what it leaves untouched, and what its failures say."""

import pytest
import torch
from ds_core import Linear, Module, Sequential, accumulate, drawn, parameter
from ds_core.testing import CheckFailed, check_layer
from planted_layers import Noise, Square, X


class Kink(Module):
    """y = max(x, 0); at 0 this says dx = 0, and autograd gives the equal numbers of a maximum half of dy each."""

    def forward(self, x):
        self.save(x)
        return torch.maximum(x, torch.zeros_like(x))

    def backward(self, dy):
        (x,) = self.saved()
        return None if dy is None else dy * (x > 0)


def test_at_a_kink_the_two_comparisons_are_left_out_by_name():
    x = torch.tensor([[0.0, 1.0, -1.0]])
    with pytest.raises(CheckFailed, match="autograd"):
        check_layer(Kink(), x)
    check_layer(Kink(), x, skip=["autograd", "finite differences"])


def test_time_first_inputs_name_their_batch_dimensions():
    class Recurrence(Module):
        """y_t = x_t + h, with x (T, B, D) and h (B, D)."""

        def forward(self, x, h):
            if x.shape[1] != h.shape[0]:
                raise ValueError(f"batch of x {x.shape[1]}, of h {h.shape[0]}")
            self.save(x.shape)
            return x + h

        def backward(self, dy):
            (shape,) = self.saved()
            return (None, None) if dy is None else (dy, dy.reshape(shape).sum(0))

    check_layer(Recurrence(), torch.randn(4, 2, 3), torch.randn(2, 3), batch_dim=[1, 0])
    with pytest.raises(CheckFailed, match="batch of x"):
        check_layer(Recurrence(), torch.randn(2, 2, 3), torch.randn(2, 3), batch_dim=[0, 0])


def test_other_inputs_may_be_given():
    seen = []

    class Spy(Square):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x)

    other = torch.full((4, 3), 7.0)
    check_layer(Spy(), X, other_inputs=[other])
    assert any(torch.equal(x, other.double()) for x in seen)
    seen.clear()
    check_layer(Spy(), X)
    assert any(x.shape == X.shape and bool((x / X.double()).lt(0.95).all()) for x in seen)


def test_nothing_of_the_caller_is_changed():
    layer, x = Sequential(Noise(), Square()), X.clone().requires_grad_()
    layer[1].generator = torch.Generator().manual_seed(5)
    layer[1].weight.grad = torch.ones(3)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    state, python_state = torch.get_rng_state(), layer[1].generator.get_state()
    check_layer(layer, x)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    assert layer[1].weight.dtype == torch.float32
    assert torch.equal(layer[1].weight.grad, torch.ones(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layer[1].generator.get_state(), python_state)
    assert x.grad is None
    assert torch.equal(x, X)


def test_a_generator_of_the_layer_is_put_back_for_each_evaluation():
    class OwnNoise(Noise):
        def __init__(self):
            super().__init__()
            self.generator = torch.Generator().manual_seed(0)

        def draw(self, x):
            return drawn(lambda: torch.rand(x.shape, generator=self.generator, dtype=x.dtype))

    check_layer(OwnNoise(), X)


def test_a_wrong_coordinate_of_a_large_tensor_is_found_though_it_is_not_sampled():
    class Large(Module):
        def __init__(self):
            self.weight = parameter(torch.randn(5000))

        def forward(self, x):
            self.save(x)
            # Autograd is led astray once, just as backward is.
            blind = torch.cat([self.weight[:-1], 0.5 * self.weight[-1:] + 0.5 * self.weight[-1:].detach()])
            return x * blind

        def backward(self, dy, *, input_gradient=True):
            (x,) = self.saved()
            if dy is None:
                return None
            factors = torch.ones_like(x)
            factors[..., -1] = 0.5
            accumulate(self.weight, (dy * x * factors).sum(0))
            return dy * self.weight if input_gradient else None

    with pytest.raises(CheckFailed, match="gradient of weight along a random direction"):
        check_layer(Large(), torch.randn(2, 5000), samples=1)


def test_a_failure_says_where():
    class OnePlace(Square):
        def backward(self, dy, *, input_gradient=True):
            dx = super().backward(dy, input_gradient=input_gradient)
            if dx is not None and dx.shape == (2, 3):
                dx[1, 2] += 0.25
            return dx

    with pytest.raises(CheckFailed, match="1 of 6 entries differ") as caught:
        check_layer(OnePlace(), X)
    failure = caught.value
    assert (failure.check, failure.tensor, failure.where) == ("autograd", "gradient of input x", (1, 2))
    assert failure.difference == pytest.approx(0.25)
    assert "[1, 2]" in failure.reason


def test_a_transposed_gradient_is_recognised():
    class Transposed(Linear):
        def backward(self, dy, *, input_gradient=True):
            dx = super().backward(dy, input_gradient=input_gradient)
            self.weight.grad = None if self.weight.grad is None else self.weight.grad.t().clone()
            return dx

    with pytest.raises(CheckFailed, match="transpose of autograd"):
        check_layer(Transposed(3, 3), X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip": ["kinks"]}, "checks that can be left out are dtype, "),
        ({"skip": ["trace"]}, "can be left out"),
        ({"constants": ["y"]}, "no such argument"),
        ({"batch_dim": [0, 0]}, "expected one for each of"),
    ],
)
def test_options_that_name_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check_layer(Square(), X, **options)


class Ranks(Module):
    def forward(self, x):
        return x.argsort()

    def backward(self, dy):
        return None


def test_a_check_of_nothing_is_refused():
    with pytest.raises(ValueError, match="neither an input nor a parameter"):
        check_layer(Kink(), X, constants=[0])
    with pytest.raises(ValueError, match="no output is floating"):
        check_layer(Ranks(), X)
