"""check_twin, check_twin_grid and check_loss: right ones pass, planted faults are found and named."""

from types import SimpleNamespace

import pytest
import torch
from ds_core import SGD, Embedding, Linear, Module, StepLR, no_record
from ds_core.testing import CheckFailed, check_loss, check_signature, check_signatures, check_twin, check_twin_grid
from planted_layers import X

GRID = {"in_features": [3], "out_features": [1, 4], "bias": [True, False]}


class Centre(Module):
    """y = x - mean: the batch's mean in training, a running one in evaluation."""

    def __init__(self):
        self.mean = torch.zeros(3)

    def forward(self, x):
        mean = x.mean(0) if self.training else self.mean
        if self.training:
            with no_record():
                self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        self.save(self.training)
        return x - mean

    def backward(self, dy):
        (training,) = self.saved()
        return dy - dy.mean(0) if training else dy


class TorchCentre(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        if not self.training:
            return x - self.mean
        with torch.no_grad():
            self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return x - x.mean(0)


def test_right_twins_pass_and_are_counted():
    check_twin(Linear(3, 4), torch.nn.Linear(3, 4), X)
    check_twin(Centre(), TorchCentre(), X)
    assert check_twin_grid(Linear, torch.nn.Linear, GRID, [X]) == 4
    assert check_twin_grid(Linear, torch.nn.Linear, GRID, lambda chosen: [torch.randn(chosen["out_features"], 3)]) == 4


def test_a_function_may_be_the_twin():
    class Scaled(Module):
        def forward(self, x, scale):
            self.save(scale)
            return x * scale

        def backward(self, dy):
            (scale,) = self.saved()
            return dy * scale

    check_twin(Scaled(), lambda x, scale: x * scale, X, kwargs={"scale": 3.0})
    with pytest.raises(CheckFailed, match="wrong factor"):
        check_twin(Scaled(), lambda x, scale: x * scale * 2, X, kwargs={"scale": 3.0})


def test_neither_layer_is_changed():
    ours, theirs = Linear(3, 4), torch.nn.Linear(3, 4)
    before = [tensor.detach().clone() for tensor in [*ours.parameters(), *theirs.parameters()]]
    check_twin(ours, theirs, X)
    after = [*ours.parameters(), *theirs.parameters()]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))


class OtherName(Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.weights = self.__dict__.pop("weight")
        del self._kinds["weight"]


class OtherShape(Linear):
    def __init__(self, in_features, out_features):
        super().__init__(out_features, in_features)


class LoadsHalf(Linear):
    def load_state_dict(self, state_dict, strict=True):
        return super().load_state_dict({"weight": state_dict["weight"]}, strict=False)


class GivesStaleState(Linear):
    def state_dict(self):
        return {name: torch.zeros_like(tensor) for name, tensor in super().state_dict().items()}


class WrongOutput(Linear):
    def forward(self, x):
        return super().forward(x) + 1


class WrongInEvaluation(Linear):
    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        return dx if self.training else 2 * dx


class WrongBiasGradient(Linear):
    def backward(self, dy, *, input_gradient=True):
        dx = super().backward(dy, input_gradient=input_gradient)
        self.bias.grad.neg_()
        return dx


class FrozenBias(Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.bias.requires_grad_(False)


class TwoOutputs(Linear):
    def forward(self, x):
        return super().forward(x), x


LINEAR_FAULTS = [
    (OtherName, "state_dict", "weights.*weight"),
    (OtherShape, "state_dict", r"\(3, 4\).*\(4, 3\)"),
    (LoadsHalf, "state_dict", "bias loaded from PyTorch"),
    (GivesStaleState, "state_dict", "weight loaded"),
    (FrozenBias, "state_dict", "trainable"),
    (WrongOutput, "twin, train", "output y.*ours.*PyTorch's"),
    (TwoOutputs, "twin, train", r"outputs: ours \['y\[0\]', 'y\[1\]'\]"),
    (WrongBiasGradient, "twin, train", "gradient of bias.*ours = -PyTorch's: a wrong sign"),
    (WrongInEvaluation, "twin, eval", "gradient of input input.*ours = 2 x PyTorch's"),
]


@pytest.mark.parametrize(
    ("fault", "check", "message"), LINEAR_FAULTS, ids=[fault[0].__name__ for fault in LINEAR_FAULTS]
)
def test_faults_of_twins_are_found_and_named(fault, check, message):
    with pytest.raises(CheckFailed, match="(?s)" + message) as caught:
        check_twin(fault(3, 4), torch.nn.Linear(3, 4), X)
    assert caught.value.check == check


def test_a_wrong_buffer_is_found():
    class Slower(Centre):
        def forward(self, x):
            y = super().forward(x)
            with no_record():
                self.mean.mul_(0.5)
            return y

    with pytest.raises(CheckFailed, match="buffer mean after"):
        check_twin(Slower(), TorchCentre(), X, modes=["train"])


def test_a_twin_that_gives_nothing_finite_shows_nothing():
    with pytest.raises(ValueError, match="no finite number"):
        check_twin(Centre(), lambda x: x * torch.nan, X)


def named(name, base=Linear, **members):
    return type(name, (base,), members)


def other_default(self, in_features, out_features, bias=False, device=None, dtype=None):
    Linear.__init__(self, in_features, out_features, bias)


def other_draws(self, in_features, out_features, bias=True, device=None, dtype=None):
    torch.rand(1)
    Linear.__init__(self, in_features, out_features, bias)


def picky(self, in_features, out_features, bias=True, device=None, dtype=None):
    if not bias:
        raise ValueError("a bias, please")
    Linear.__init__(self, in_features, out_features, bias)


def any_arguments(self, *args, **kwargs):
    Linear.__init__(self, *args, **kwargs)


def wrong_without_bias(self, input):
    y = Linear.forward(self, input)
    return y if self.bias is not None else -y


GRID_FAULTS = [
    (named("Lineal"), "arguments", "the twin's name is Linear"),
    (named("Linear", __init__=other_default), "arguments", r"bias=False.*the twin .*bias=True"),
    (
        named("Linear", forward=lambda self, x, scale=1: None),
        "arguments",
        r"forward takes \(x, scale=1\), the twin \(input\)",
    ),
    (named("Linear", forward=lambda self, x: None), "arguments", r"forward takes \(x\), the twin \(input\)"),
    (named("Linear", __init__=any_arguments), "arguments", r"takes \(\*args, \*\*kwargs\), the twin \(in_features,"),
    (named("Linear", __init__=other_draws), "initialisation", "weight.*out_features=1"),
    (named("Linear", __init__=picky), "arguments", "a bias, please.*accepted"),
    (named("Linear", forward=wrong_without_bias), "twin, train", "output y.*wrong sign"),
]


@pytest.mark.parametrize(("fault", "check", "message"), GRID_FAULTS, ids=[fault[2][:12] for fault in GRID_FAULTS])
def test_faults_over_a_grid_are_found_and_named(fault, check, message):
    with pytest.raises(CheckFailed) as caught:
        check_twin_grid(fault, torch.nn.Linear, GRID, [X])
    assert caught.value.check == check
    if check == "twin, train":
        assert "Linear(in_features=3, out_features=1, bias=False)" in str(caught.value)
    for part in message.split(".*"):
        assert part.replace("\\", "") in str(caught.value)


def test_what_both_refuse_is_left_out_but_not_everything():
    grid = {"in_features": [3, -1], "out_features": [2]}
    assert check_twin_grid(Linear, torch.nn.Linear, grid, [X]) == 1
    with pytest.raises(ValueError, match="nothing was compared"):
        check_twin_grid(Linear, torch.nn.Linear, {"in_features": [-1], "out_features": [2]}, [X])


def test_arguments_may_be_left_out_by_name():
    def no_bias(self, in_features, out_features, device=None, dtype=None):
        Linear.__init__(self, in_features, out_features)

    ours = named("Linear", __init__=no_bias)
    check_twin_grid(ours, torch.nn.Linear, {"in_features": [3], "out_features": [2]}, [X], left_out=["bias"])
    with pytest.raises(CheckFailed, match="bias=True"):
        check_signature(ours, torch.nn.Linear)


def test_arguments_about_machinery_may_be_left_out():
    class ReLU(Module):
        def __init__(self):
            self.mask = None

        def forward(self, input):
            return input

    check_signature(ReLU, torch.nn.ReLU)


def package(*classes):
    return SimpleNamespace(
        __name__="package", __all__=[cls.__name__ for cls in classes], **{c.__name__: c for c in classes}
    )


def test_all_twins_of_a_package_are_found_and_compared():
    assert check_signatures(package(Linear, Centre, SGD, StepLR)) == ["Linear", "SGD", "StepLR"]
    with pytest.raises(CheckFailed, match=r"Linear\n.*forward takes \(x\)"):
        check_signatures(package(SGD, named("Linear", forward=lambda self, x: None)))


def test_exceptions_are_needed():
    assert check_signatures(package(Linear, Embedding), {"Linear": "no twin", "Embedding.sparse": "dense here"}) == [
        "Embedding"
    ]
    with pytest.raises(CheckFailed, match=r"not needed: Linear\.bias, Conv2d"):
        check_signatures(package(Linear), {"Linear.bias": "", "Conv2d": ""})


def test_what_follows_an_argument_that_is_left_out_may_be_keyword_only():
    class ReLU6(Module):
        def __init__(self, *, inplace=False): ...

        def forward(self, input): ...

    check_signature(ReLU6, torch.nn.ReLU6)
    keyword_only = named(
        "Linear", __init__=lambda self, in_features, out_features, *, bias=True, device=None, dtype=None: None
    )
    with pytest.raises(CheckFailed, match=r"out_features, \*, bias"):
        check_signature(keyword_only, torch.nn.Linear)


class MSELoss(Module):
    def __init__(self, reduction="mean"):
        self.reduction = reduction

    def forward(self, input, target):
        difference = input - target
        self.save(difference)
        squares = difference * difference
        return squares if self.reduction == "none" else squares.mean()

    def backward(self, grad=None, *, target_gradient=False):
        (difference,) = self.saved()
        scale = 2.0 if self.reduction == "none" else 2.0 / max(1, difference.numel())
        dinput = scale * difference * (1.0 if grad is None else grad)
        return (dinput, -dinput) if target_gradient else dinput


def test_right_losses_pass():
    check_loss(MSELoss(), X, X.flip(0), twin=torch.nn.MSELoss())
    check_loss(MSELoss(), X, X.flip(0), twin=torch.nn.MSELoss(), target_gradient=True)
    check_loss(MSELoss("none"), X, X.flip(0), twin=torch.nn.MSELoss(reduction="none"))


class IgnoresGiven(MSELoss):
    def backward(self, grad=None, *, target_gradient=False):
        return super().backward(None)


class NoneIsZero(MSELoss):
    def backward(self, grad=None, *, target_gradient=False):
        dinput = super().backward(grad)
        return dinput * 0 if grad is None else dinput


class TargetOfWrongSign(MSELoss):
    def backward(self, grad=None, *, target_gradient=False):
        dinput = super().backward(grad)
        return (dinput, dinput) if target_gradient else dinput


@pytest.mark.parametrize(
    ("fault", "options", "check"),
    [
        (IgnoresGiven(), {}, "autograd"),
        (NoneIsZero(), {}, "None gradients"),
        (TargetOfWrongSign(), {"target_gradient": True}, "autograd"),
        (MSELoss(), {"twin": torch.nn.MSELoss(reduction="sum")}, "twin, train"),
    ],
    ids=["ignores given", "None is zero", "target", "twin"],
)
def test_faults_of_losses_are_found_and_named(fault, options, check):
    with pytest.raises(CheckFailed) as caught:
        check_loss(fault, X, X.flip(0), **options)
    assert caught.value.check == check
