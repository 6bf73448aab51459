"""An optimizer of one's own in one method, as docs/optimizer.md shows it: all that the others can do, it can."""

import copy
import pickle
import re
from pathlib import Path

import pytest
import torch
from ds_core import (
    BaseOptimizer,
    CrossEntropyLoss,
    FlatOptimizer,
    LayerNorm,
    Linear,
    Sequential,
    StepLR,
    Trainer,
    plain,
    whole_step,
)
from ds_core.optimizers.update_rule import counted_
from ds_core.testing import check_optimizer
from ds_core.training.compile_step import prepare_compile
from optimizer_checks import like_eager_when_compiled

PAGE = Path(__file__).parents[1] / "docs" / "optimizer.md"


def example(number, **names):
    """The names that an example of the page defines."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names = {"torch": torch, "BaseOptimizer": BaseOptimizer, "FlatOptimizer": FlatOptimizer, **names}
    exec(blocks[number], names)
    return names


def vector(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def two_steps(optimizer, parameter):
    for gradient in ([3.0, -0.1], [-1.0, -0.1]):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return parameter.tolist()


def test_the_example_in_one_method():
    kind = example(0)["SignMomentum"]
    weight = vector(1.0, -1.0)
    optimizer = kind([weight], {"lr": 0.25, "beta": 0.5})
    assert two_steps(optimizer, weight) == [0.5, -0.5]  # the means are 1.5 and -0.05, then 0.25 and -0.075
    torch.testing.assert_close(optimizer.state[weight]["mean"].tolist(), [0.25, -0.075])


def test_the_example_in_use():
    model = Linear(2, 3)
    optimizer = example(1, SignMomentum=example(0)["SignMomentum"], model=model)["optimizer"]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for parameter, start in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), start - 0.01)


def test_the_example_with_names_and_defaults():
    kind, one_method = example(2)["SignMomentum"], example(0)["SignMomentum"]
    check_optimizer(
        lambda p: kind(p, lr=0.1, beta=0.5, weight_decay=0.2),
        lambda p: one_method(p, {"lr": 0.1, "beta": 0.5, "weight_decay": 0.2}),
    )
    for options, message in (
        ({"beta": 1.0}, "Invalid beta: 1.0"),
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"weight_decay": -1.0}, "Invalid weight_decay value: -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            kind([vector(1.0)], **options)


def test_the_example_with_hooks():
    weight = vector(1.0, -1.0)
    assert two_steps(example(3)["SignDescent"]([weight], {"lr": 0.25}), weight) == [1.0, -0.5]


class Collector(BaseOptimizer):
    """Keeps all kinds of state, and uses each."""

    def __init__(self, params, lr=0.05, **options):
        super().__init__(params, {"lr": lr, **options})

    def update(self, parameter, gradient, state, group):
        steps = state["steps"] = state.get("steps", 0) + 1
        state["mean"] = 0.9 * state.get("mean", 0.0) + 0.1 * gradient
        # of another shape and dtype than the parameter, and of no dimensions
        state.setdefault("norms", torch.ones(3, dtype=torch.float64))[steps % 3] = gradient.double().square().sum()
        state["largest"] = torch.maximum(state.get("largest", torch.zeros(())), gradient.detach().abs().max())
        state["history"] = (*state.get("history", ())[-2:], 1 / steps)
        scale = state["norms"].mean().sqrt().item() + state["largest"].item() + sum(state["history"])
        parameter -= group["lr"] / (1 - 0.9**steps) * state["mean"] / scale


def parameters_and_gradients(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 4), (5,), ()):
        parameter = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        parameter.grad = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        yield parameter


def step(optimizer, steps=3):
    for _ in range(steps):
        optimizer.step()
    return [parameter.detach() for group in optimizer.param_groups for parameter in group["params"]]


class Descent(BaseOptimizer):
    def update(self, parameter, gradient, state, group):
        parameter -= group["lr"] * gradient


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_groups_decay_and_sign(decoupled, maximize):
    """For plain descent both kinds of decay are one and the same."""
    options = {"weight_decay": 0.5, "decoupled_weight_decay": decoupled, "maximize": maximize}
    parameters = list(parameters_and_gradients())
    expected = [parameter.detach().clone() for parameter in parameters]
    groups = [{"params": parameters[:1], "lr": torch.tensor(0.25)}, {"params": parameters[1:], "weight_decay": 0.1}]
    step(Descent(groups, {"lr": 0.1, **options}))
    for index, (parameter, theta) in enumerate(zip(parameters, expected, strict=True)):
        rate, decay = (0.25, 0.5) if index == 0 else (0.1, 0.1)
        for _ in range(3):
            theta = (1 - rate * decay) * theta - rate * (-parameter.grad if maximize else parameter.grad)
        torch.testing.assert_close(parameter.detach(), theta, rtol=1e-14, atol=0)


def test_no_gradient_no_update_and_no_state():
    first, second, third = parameters_and_gradients()
    second.grad = None
    before = second.tolist()
    optimizer = Collector([first, second, third])
    step(optimizer)
    assert second.tolist() == before
    assert set(optimizer.state) == {first, third}
    stateless = Descent([first], {"lr": 0.1})
    step(stateless)
    assert stateless.state_dict()["state"] == {}


def test_update_runs_with_autograd_off_and_closure_with_it_on():
    weight = vector(2.0)
    optimizer = Descent([weight], {"lr": 0.25})

    def closure():
        weight.grad = None
        loss = (weight * weight).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert weight.item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
def test_a_copied_state_continues_alike_and_apart(how, dtype):
    parameters = list(parameters_and_gradients(dtype))
    optimizer = Collector(parameters)
    step(optimizer)
    if how == "state_dict":
        others = [parameter.detach().clone().requires_grad_() for parameter in parameters]
        for parameter, other in zip(parameters, others, strict=True):
            other.grad = parameter.grad
        twin = Collector(others)
        twin.load_state_dict(optimizer.state_dict())
    else:
        twin = copy.deepcopy(optimizer) if how == "deepcopy" else pickle.loads(pickle.dumps(optimizer))
        for parameter, other in zip(parameters, twin.param_groups[0]["params"], strict=True):
            other.grad = parameter.grad
    before = copy.deepcopy(optimizer.state_dict()["state"])
    assert before[0]["norms"].dtype == torch.float64
    moved = step(twin)
    torch.testing.assert_close(optimizer.state_dict()["state"], before, rtol=0, atol=0)
    for own, other in zip(step(optimizer), moved, strict=True):
        assert torch.equal(own, other)
    torch.testing.assert_close(optimizer.state_dict()["state"], twin.state_dict()["state"], rtol=0, atol=0)


def test_attributes_of_its_own_are_copied():
    optimizer = Collector(list(parameters_and_gradients()))
    optimizer.note = "mine"
    assert copy.deepcopy(optimizer).note == "mine"


class Batches:
    def batch(self, index):
        generator = torch.Generator().manual_seed(index)
        x = torch.randn(6, 4, generator=generator)
        return x, torch.randint(3, (6,), generator=generator)


def trainer(folder, **options):
    torch.manual_seed(0)
    model = Sequential(Linear(4, 5), LayerNorm(5), Linear(5, 3))
    weights, biases = ([p for p in model.parameters() if (p.dim() == 2) == wide] for wide in (True, False))
    optimizer = Collector([{"params": weights, "weight_decay": 0.1}, {"params": biases}], lr=0.1)
    schedule = StepLR(optimizer, 3, 0.5)
    return Trainer(
        model, CrossEntropyLoss(), optimizer, schedule=schedule, clip_norm=1.0, folder=folder, progress=False, **options
    )


def test_a_resumed_run_ends_bit_for_bit_where_the_unbroken_one_does(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.fit(Batches(), 8)
    trainer(tmp_path / "parts", checkpoint_every=5).fit(Batches(), 5)
    second = trainer(tmp_path / "parts")
    assert second.resume()
    second.fit(Batches(), 8)
    assert second.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"] == 0.1 * 0.5**2
    for own, expected in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(own, expected)
    states = [one.optimizer.state_dict()["state"] for one in (second, whole)]
    assert states[0][0]["history"] == (1 / 6, 1 / 7, 1 / 8)
    torch.testing.assert_close(*states, rtol=0, atol=0)


class Declared(BaseOptimizer):
    """Says what it keeps, so that a compiled step is compiled once."""

    scalars = {"step": 0.0}  # noqa: RUF012

    def __init__(self, params, lr=0.1, **options):
        super().__init__(params, {"lr": lr, "weight_decay": 0.1, **options})

    def state_names(self, group):
        return ("mean", "total")

    def start(self, name, group):
        return 1.0 if name == "total" else 0.0

    def update(self, parameter, gradient, state, group):
        t = counted_(state["step"])
        state["mean"].mul_(0.9).add_(0.1 * gradient)
        state["total"] = state["total"] + gradient**2
        parameter -= group["lr"] / (1 - 0.9**t) * state["mean"] / torch.sqrt(state["total"])


class Undeclared(BaseOptimizer):
    def __init__(self, params, lr=0.1, **options):
        super().__init__(params, {"lr": lr, "weight_decay": 0.1, **options})

    def update(self, parameter, gradient, state, group):
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
        state["mean"].mul_(0.9).add_(gradient)
        parameter -= group["lr"] * state["mean"]


@pytest.mark.parametrize("decoupled", [False, True])
def test_compiled_steps_are_the_eager_ones(decoupled):
    like_eager_when_compiled(lambda p: Declared(p, decoupled_weight_decay=decoupled))


def test_a_state_that_is_not_declared_is_made_by_a_first_graph_of_its_own():
    like_eager_when_compiled(lambda p: Undeclared(p, decoupled_weight_decay=True), graphs=2)


def shows_errors():
    @torch.compile(fullgraph=True, backend="eager")
    def fails(x):
        with torch.no_grad():
            raise TypeError("words".upper())  # computed, since every compiler shows the line itself

    try:
        fails(torch.zeros(1))
    except Exception as error:
        return "WORDS" in str(error)


def test_a_number_that_would_be_compiled_again_and_again_is_named():
    class Counts(BaseOptimizer):
        def update(self, parameter, gradient, state, group):
            state["count"] = state.get("count", 0) + 1
            parameter -= group["lr"] / state["count"] * gradient

    torch._dynamo.reset()
    model = Linear(4, 3)
    optimizer = Counts(model.parameters(), {"lr": 0.1})
    prepare_compile(optimizer)
    compiled = torch.compile(whole_step(model, CrossEntropyLoss(), optimizer), fullgraph=True, backend="eager")
    compiled([Batches().batch(0)])
    # an older compiler hides the message of what is raised inside `with`
    message = r"Counts: state\['count'\] is a Python number .* `scalars = {'count': 0.0}`" if shows_errors() else None
    with pytest.raises(RuntimeError, match=message):
        compiled([Batches().batch(1)])


def test_declared_state_follows_a_parameter_that_is_cast():
    (parameter, *_) = parameters_and_gradients()
    optimizer = Declared([parameter])
    step(optimizer)
    parameter.grad = None
    parameter.data = parameter.data.float()
    parameter.grad = torch.ones_like(parameter)
    step(optimizer)
    dtypes = {name: value.dtype for name, value in optimizer.state[parameter].items()}
    assert dtypes == {"step": torch.float32, "mean": torch.float32, "total": torch.float32}


def test_a_declared_tensor_of_another_shape_is_refused():
    (parameter, *_) = parameters_and_gradients()
    optimizer = Declared([parameter])
    step(optimizer)
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0]["mean"] = torch.zeros(7)
    with pytest.raises(ValueError, match=r"mean of parameter 0 has shape \(7,\), but the parameter has shape \(3, 4\)"):
        optimizer.load_state_dict(state)


def test_inside_plain_nothing_differs():
    ends = []
    for form in (False, True):
        torch.manual_seed(0)
        model = Linear(4, 3).double()
        take = whole_step(model, CrossEntropyLoss(), Declared(model.parameters()), clip_norm=0.5)
        for index in range(4):
            x, target = Batches().batch(index)
            if form:
                with plain():
                    take([(x.double(), target)])
            else:
                take([(x.double(), target)])
        ends.append([parameter.detach() for parameter in model.parameters()])
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-14)
