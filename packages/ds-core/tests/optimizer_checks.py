"""What the tests of each optimizer have in common."""

import torch
from ds_core.primitives import check_graph
from ds_core.testing import check_optimizer, pairwise
from functorch.compile import make_boxed_func
from hypothesis import strategies as st
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

# The 2 x 2 parameter of the worked examples, and its gradients in two steps.
WEIGHT = [[1.0, -2.0], [0.5, 4.0]]
GRADIENTS = ([[0.5, -2.0], [0.0, 10.0]], [[1.5, -2.0], [0.0, -10.0]])

any_shapes = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)
some_betas = st.tuples(*[st.sampled_from([0.0, 0.3, 0.9, 0.95, 0.999])] * 2)


class TorchNAdam(torch.optim.NAdam):
    """Goes on with a loaded "mu_product" as with its own: PyTorch casts it to the parameter's dtype."""

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state["mu_product"] = state["mu_product"].float()


def grid(**choices):
    """Combinations of the options' values that hold every pair of them, as dicts; all of them under DS_FULL_GRIDS."""
    return pairwise(choices)


def example(make, gradients=GRADIENTS):
    """(weight, state) after each step from `WEIGHT` on, as nested lists."""
    weight = torch.tensor(WEIGHT, dtype=torch.float64, requires_grad=True)
    optimizer = make([weight])
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        yield weight.tolist(), {name: value.tolist() for name, value in optimizer.state[weight].items()}


def close(given, expected, digits=4):
    """Equal to so many decimals, as the pages print them."""
    torch.testing.assert_close(torch.tensor(given), torch.tensor(expected), rtol=0, atol=0.50001 * 10**-digits)


def like_torch(ours, theirs, options, steps=12, rtol=1e-12, **more):
    """Step by step, and after exchanging states half way; torch without `foreach`, which rounds otherwise."""
    given = dict(options)
    flat = given.pop("flat", True)
    check_optimizer(
        lambda p: ours(p, flat=flat, **given), lambda p: theirs(p, foreach=False, **given), steps, rtol=rtol, **more
    )


def _look_at(graph, _):
    check_graph(graph)
    return make_boxed_func(graph.forward)


aot_eager_of_primitives = aot_autograd(fw_compiler=_look_at)  # "aot_eager", and each operation looked at


def like_eager_when_compiled(make, steps=10, shapes=((3, 4), (5,), ()), rtol=1e-12, graphs=1):
    """One graph for all steps, whatever the learning rate; the same walk, and then the same state, as eagerly."""
    torch._dynamo.reset()
    counters.clear()
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (*shapes, shapes[0])]
    ours, expected = ([tensor.clone().requires_grad_() for tensor in start] for _ in range(2))
    for parameters in (ours, expected):
        parameters[-1].requires_grad_(False)  # frozen, and without gradient
    optimizer, eager = make(ours), make(expected)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = torch.tensor(rate, dtype=torch.float64)
    optimizer.prepare_compile()

    @torch.compile(fullgraph=True, backend=aot_eager_of_primitives)
    def compiled(gradients):
        for parameter, gradient in zip(ours[:-1], gradients, strict=True):
            parameter.grad = gradient * 1.0
        optimizer.step()
        for parameter in ours:
            parameter.grad = None

    for step in range(steps):
        gradients = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in ours[:-1]]
        for group, other, rate in zip(optimizer.param_groups, eager.param_groups, rates, strict=True):
            group["lr"].fill_(rate / (step + 1))
            other["lr"] = rate / (step + 1)
        compiled(gradients)
        for parameter, gradient in zip(expected[:-1], gradients, strict=True):
            parameter.grad = gradient
        eager.step()
        torch.testing.assert_close(ours, expected, rtol=rtol, atol=1e-14)
    for own, other in zip(ours[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(optimizer.state[own], eager.state[other], rtol=rtol, atol=1e-14)
    assert counters["stats"]["unique_graphs"] == graphs


def lose_no_more_than_torch(ours, theirs, dtype, steps=20):
    """In half precision, against a walk in float64; packed and alone."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(50, generator=generator)
    gradients = [torch.randn(50, generator=generator) for _ in range(steps)]

    def walk(dtype, make):
        parameters = [start.to(dtype, copy=True).requires_grad_() for _ in range(2)]
        optimizer = make(parameters)
        for gradient in gradients:
            for parameter in parameters:
                parameter.grad = gradient.to(dtype)
            optimizer.step()
        for name, value in optimizer.state[parameters[1]].items():
            assert value.dtype == (torch.float32 if name in ("step", "mu_product") else dtype)
        return parameters[1].detach().double()

    exact, torchs = walk(torch.float64, theirs), walk(dtype, theirs)
    for flat in (True, False):
        given = walk(dtype, lambda p, flat=flat: ours(p, flat=flat))
        assert (given - exact).abs().max() <= 2 * (torchs - exact).abs().max()
        assert (given - exact).abs().median() <= 2 * (torchs - exact).abs().median()
