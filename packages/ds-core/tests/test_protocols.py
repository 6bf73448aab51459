import torch
from ds_core import Layer, Linear, Loss, Module, Optimizer, Sequential, accumulate, parameter, record


class ForeignScale:
    """y = s x, a layer that inherits from nothing."""

    def __init__(self):
        self.scale = parameter(torch.tensor([3.0]))
        self.kept = []

    def forward(self, x):
        self.kept.append(x)
        return self.scale * x

    def backward(self, dy, *, input_gradient=True):
        x = self.kept.pop()
        if dy is None:
            return None
        accumulate(self.scale, (dy * x).sum().reshape(1))
        return self.scale * dy if input_gradient else None

    def parameters(self):
        return [self.scale]


class ForeignSum:
    """A loss that inherits from nothing."""

    def forward(self, input, target):
        self.ones = torch.ones_like(input)
        return (input - target).sum()

    def backward(self, grad=None):
        return self.ones if grad is None else self.ones * grad


def test_whatever_has_the_methods_fits():
    assert isinstance(Linear(1, 1), Layer)
    assert isinstance(ForeignScale(), Layer)
    assert isinstance(ForeignSum(), Loss)
    assert isinstance(torch.optim.SGD([torch.zeros(1)]), Optimizer)


def test_what_lacks_a_method_does_not():
    assert not isinstance(torch.nn.Linear(1, 1), Layer)
    assert not isinstance(ForeignSum(), Layer)
    assert not isinstance(Linear(1, 1), Optimizer)


def test_every_layer_looks_like_a_loss():
    assert isinstance(Linear(1, 1), Loss)


def test_a_foreign_layer_works_among_ours():
    torch.manual_seed(0)
    foreign, criterion = ForeignScale(), ForeignSum()
    model = Sequential(Linear(2, 3), foreign, Linear(3, 2))
    x, target = torch.randn(4, 2), torch.randn(4, 2)
    with record():
        loss = criterion.forward(model(x), target)
        model.backward(criterion.backward())
    ours = [tensor.grad for tensor in model.parameters()]
    model.zero_grad()
    oracle = criterion.forward(model(x), target)
    oracle.backward()
    torch.testing.assert_close(loss, oracle.detach())
    assert len(ours) == 5
    for gradient, tensor in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, tensor.grad)


def test_a_foreign_layer_is_listed_saved_and_moved_with_the_rest():
    class Model(Module):
        def __init__(self):
            self.parts = [Linear(2, 2), ForeignScale()]

    model = Model()
    assert [name for name, _ in model.named_parameters()] == ["parts.0.weight", "parts.0.bias", "parts.1.0"]
    assert [name for name, _ in model.named_modules()] == ["", "parts.0", "parts.1"]
    assert model.state_dict()["parts.1.0"].item() == 3
    other = Model()
    with torch.no_grad():
        other.parts[1].scale.fill_(7)
    model.load_state_dict(other.state_dict())
    assert model.parts[1].scale.item() == 7
    model.double().eval()
    assert model.parts[1].scale.dtype == torch.float64
    assert model.parts[1].training is False


def test_a_torch_optimizer_drives_our_layers():
    torch.manual_seed(0)
    model, criterion = Linear(2, 1), ForeignSum()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()
    with record():
        criterion.forward(model(torch.ones(3, 2)), torch.zeros(3, 1))
        model.backward(criterion.backward(), input_gradient=False)
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before - 0.1 * 3)
