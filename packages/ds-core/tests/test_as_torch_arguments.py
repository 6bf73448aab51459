"""as_torch: which argument each gradient belongs to, errors that name it, and what is refused at wrapping."""

import pytest
import torch
from bridged_layers import Cell
from ds_core import Linear, Module, MSELoss, Parallel, Sequential, ShapeError, accumulate, parameter
from ds_core.interop import as_torch


class Gives(Module):
    """A forward of these arguments, whose backward gives what it is told to."""

    def __init__(self, *gradients):
        self.gradients = gradients if len(gradients) != 1 else gradients[0]

    def forward(self, query, index=None, attn_mask=None, *rest, scale=None, **options):
        self.save()
        return query * 2

    def backward(self, dy):
        self.saved()
        return self.gradients


def leaf(*shape):
    return torch.ones(shape, requires_grad=True)


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((), {"attn_mask": (2, 2)}, "attn_mask"),
        ((None, (2, 2)), {}, "attn_mask"),
        ((None, None, (2,)), {}, r"rest\[0\]"),
        ((), {"scale": ()}, "scale"),
        ((), {"extra": ()}, "extra"),
    ],
)
def test_an_argument_that_gets_no_gradient_is_named(args, kwargs, named):
    args = [None if shape is None else leaf(*shape) for shape in args]
    kwargs = {name: leaf(*shape) for name, shape in kwargs.items()}
    y = as_torch(Gives(torch.ones(2)))(leaf(2), *args, **kwargs)
    with pytest.raises(TypeError, match=rf"the argument {named} of Gives\(\) requires a gradient.* none .*: detach it"):
        y.sum().backward()


def test_a_target_that_requires_a_gradient():
    loss = as_torch(MSELoss())
    with pytest.raises(TypeError, match="the argument target of MSELoss"):
        loss(leaf(2), leaf(2)).backward()
    x = leaf(2)
    loss(x, torch.zeros(2)).backward()
    assert x.grad.tolist() == [1, 1]


@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
def test_a_gradient_of_another_shape_is_refused(shape):
    with pytest.raises(ShapeError, match="as the gradient of its argument query, expected \\(2,\\)"):
        as_torch(Gives(torch.ones(shape)))(leaf(2)).sum().backward()


def test_a_gradient_of_another_structure_is_refused():
    class Wrong(Cell):
        def backward(self, dy, dstates=None):
            dx, (dh, dc) = super().backward(dy, dstates)
            return dx, (dh, dc, dc)

    y, _ = as_torch(Wrong())(leaf(3, 2), (leaf(3, 2), leaf(3, 2)))
    with pytest.raises(TypeError, match=r"the argument states of Wrong.*given a tuple of 3"):
        y.sum().backward()


def test_more_gradients_than_arguments_are_refused():
    y = as_torch(Gives(torch.ones(2), None, torch.ones(2), torch.ones(2)))(leaf(2), torch.tensor(1), torch.ones(2))
    with pytest.raises(TypeError, match=r"gives 4 gradients, expected one for each .*: query, attn_mask"):
        y.sum().backward()


def test_none_for_integers_as_an_autograd_function_gives_it():
    query, mask = leaf(2), leaf(2)
    as_torch(Gives(torch.ones(2), None, 3 * torch.ones(2)))(query, torch.tensor(1), mask).sum().backward()
    assert query.grad.tolist() == [1, 1]
    assert mask.grad.tolist() == [3, 3]


def test_a_backward_without_input_gradient():
    class Scale(Module):
        def __init__(self):
            self.weight = parameter(torch.tensor([2.0, 3.0]))

        def forward(self, x):
            self.save(x)
            return x * self.weight

        def backward(self, dy):
            (x,) = self.saved()
            accumulate(self.weight, (dy * x).sum(0))
            return dy * self.weight

    for layer in (Scale(), Sequential(Scale(), Linear(2, 2))):
        module, x = as_torch(layer), torch.ones(1, 2)
        y = module(x)
        expected = torch.autograd.grad(layer.forward(x).sum(), list(layer.parameters()))
        y.sum().backward()
        torch.testing.assert_close([p.grad for p in module.parameters()], list(expected))
        module(x.requires_grad_()).sum().backward()
        torch.testing.assert_close(x.grad, torch.autograd.grad(layer.forward(x).sum(), x)[0])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.nn.Linear(2, 2), r"given a torch\.nn\.modules\.linear\.Linear, which has no backward; .*from_torch"),
        (as_torch(Linear(2, 2)), "given a .*TorchModule, which has no backward"),
        (Linear, r"given the class Linear, expected a layer: write Linear\(...\)"),
        (torch.relu, "given the function relu, which has no backward; .*from_autograd makes a layer"),
        (torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=1.0), "given SGD .*, expected a layer"),
        (None, "given None, expected a layer"),
        (torch.ones(2), "given tensor.*, expected a layer"),
    ],
    ids=["module", "wrapped", "class", "function", "optimizer", "none", "tensor"],
)
def test_what_is_no_layer_is_refused_in_one_sentence(value, message):
    with pytest.raises(TypeError, match=rf"^as_torch: {message}") as raised:
        as_torch(value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp"])
def test_transforms_of_torch_func_are_refused(transform):
    module, x = as_torch(Linear(2, 2)), torch.ones(3, 2)
    run = {
        "vmap": lambda: torch.func.vmap(module)(x),
        "grad": lambda: torch.func.grad(lambda value: module(value).sum())(x),
        "jvp": lambda: torch.func.jvp(module, (x,), (x,)),
    }
    with pytest.raises(RuntimeError, match=r"as_torch: torch\.func .* handwritten backward of Linear"):
        run[transform]()


def test_forward_mode_is_refused():
    module, x = as_torch(Linear(2, 2)), torch.ones(3, 2)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        with pytest.raises(NotImplementedError, match="as_torch: forward-mode"):
            module(dual)


def test_where_no_gradient_is_wanted_transforms_work():
    module, x = as_torch(Parallel(Linear(2, 2))).requires_grad_(False), torch.randn(3, 2)
    torch.testing.assert_close(torch.func.vmap(module)(x), module(x))
