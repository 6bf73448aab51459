import pytest
import torch
from ds_core import (
    BatchNorm1d,
    Bilinear,
    CrossEntropyLoss,
    Dropout,
    Linear,
    Module,
    Recompute,
    Residual,
    Sequential,
    Tanh,
    TraceError,
    drawn,
    no_record,
    primitives_only,
    record,
    replaying,
)
from ds_core.engine.recompute import tape, taping
from ds_core.testing import check_layer


class Noisy(Module):
    """y = x m with a random mask m, and a running mean of x: all that makes a second forward differ."""

    def __init__(self, size):
        self.mean = torch.zeros(size)

    def forward(self, x):
        mask = (
            drawn(lambda: torch.empty(x.shape, dtype=x.dtype).bernoulli_(0.5)) if self.training else torch.ones_like(x)
        )
        if self.training and not replaying():
            with no_record():
                self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        self.save(mask)
        return x * mask

    def backward(self, dy):
        (mask,) = self.saved()
        return None if dy is None else dy * mask


def block(wrap=lambda layer: layer):
    torch.manual_seed(0)
    return Sequential(
        wrap(Sequential(Linear(4, 8), Noisy(8), Linear(8, 8))),
        wrap(Residual(Sequential(Noisy(8), wrap(Sequential(Linear(8, 8), Noisy(8)))))),
        Linear(8, 2),
    ).double()


def trained(model, seed=7):
    """One recorded pass: output, gradients, running means and the next random number; and the bytes kept."""
    torch.manual_seed(seed)
    x = torch.randn(3, 4, dtype=torch.float64)
    with record() as trace:
        y = model(x)
        kept = sum(line.bytes for line in trace.kept())
        dx = model.backward(torch.cos(y))
    gradients = [tensor.grad for tensor in model.parameters()]
    return [y, dx, *gradients, *model.buffers(), torch.rand(1)], kept


def test_the_same_gradients_draws_and_statistics_in_less_memory():
    plain, kept = trained(block())
    recomputed, kept_less = trained(block(Recompute))
    assert len(plain) == len(recomputed) == 2 + 8 + 3 + 1
    for first, second in zip(plain, recomputed, strict=True):
        assert torch.equal(first, second)
    assert kept_less < kept


def test_a_block_keeps_one_input_instead_of_one_a_layer():
    layers = [Linear(8, 8) for _ in range(6)]
    kept = []
    for model in (Sequential(*layers), Recompute(Sequential(*layers))):
        with record() as trace:
            model(torch.randn(3, 8))
            kept.append(sum(line.bytes for line in trace.kept()))
            model.backward(None)
    assert kept == [6 * 3 * 8 * 4, 3 * 8 * 4]


def test_what_is_kept_is_the_input_and_the_draws():
    layer = Recompute(Sequential(Linear(4, 8), Noisy(8), Linear(8, 2)))
    x = torch.randn(3, 4)
    with record() as trace:
        layer(x)
        assert len(trace) == 1
        assert trace.kept()[0].shapes == ((3, 4), (3, 8))
        layer.backward(torch.ones(3, 2))


def test_three_deep():
    def model(wrap):
        torch.manual_seed(0)
        return wrap(
            Sequential(Noisy(4), wrap(Sequential(Linear(4, 4), wrap(Noisy(4)), Noisy(4))), Linear(4, 2))
        ).double()

    plain, _ = trained(model(lambda layer: layer))
    recomputed, _ = trained(model(Recompute))
    for first, second in zip(plain, recomputed, strict=True):
        assert torch.equal(first, second)


def test_against_autograd_and_finite_differences():
    check_layer(Recompute(Sequential(Linear(3, 4), Noisy(4), Recompute(Linear(4, 2)))), torch.randn(2, 3))


def test_used_twice_each_call_has_draws_of_its_own():
    check_layer(Sequential(*[Recompute(Sequential(Noisy(3), Linear(3, 3)))] * 2), torch.randn(2, 3))


def test_several_inputs_and_options_go_through():
    class Scaled(Module):
        def forward(self, x, y, *, scale):
            self.save(x, y, scale)
            return x * y * scale

        def backward(self, dz):
            x, y, scale = self.saved()
            return dz * y * scale, dz * x * scale

    x, y = torch.randn(3), torch.randn(3)
    layer = Recompute(Scaled())
    with record():
        z = layer(x, y, scale=3.0)
        dx, dy = layer.backward(torch.ones(3))
    torch.testing.assert_close(z, 3 * x * y)
    torch.testing.assert_close(dx, 3 * y)
    torch.testing.assert_close(dy, 3 * x)


def test_none_is_not_recomputed():
    layer = Recompute(Linear(3, 2))
    with record() as trace:
        layer(torch.ones(1, 3))
        with primitives_only() as operations:
            assert layer.backward(None) is None
        assert len(trace) == 0
    assert sum(operations.values()) == 0


def test_no_input_gradient_where_none_is_wanted():
    layer = Recompute(Linear(3, 2))
    with record():
        y = layer(torch.ones(1, 3))
        with primitives_only() as operations:
            assert layer.backward(y, input_gradient=False) is None
    assert operations["mm"] == 1  # and an addmm for the second forward
    assert operations["addmm"] == 1


def test_outside_record_it_is_the_layer_itself():
    plain = Linear(3, 2)
    layer = Recompute(plain)
    y = layer(torch.ones(1, 3))
    assert y.requires_grad
    torch.testing.assert_close(y, plain(torch.ones(1, 3)))
    with no_record():
        assert not layer(torch.ones(1, 3)).requires_grad


def test_state_and_training_mode_are_those_of_the_layer_under_its_name():
    layer = Recompute(Noisy(3))
    assert list(layer.state_dict()) == ["layer.mean"]
    assert layer.eval().layer.training is False


def test_a_forward_that_changes_its_mind_is_caught():
    class Fickle(Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            for _ in range(self.calls):
                drawn(lambda: torch.rand(1))
            self.save()
            return x

        def backward(self, dy):
            self.saved()
            return dy

    layer = Recompute(Fickle())
    with record():
        layer(torch.ones(1))
        with pytest.raises(TraceError, match="more random tensors than the first"):
            layer.backward(torch.ones(1))


def test_tapes_close_on_errors():
    def failing():
        with tape([]):
            assert taping()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert not taping()
    assert not replaying()
    with tape([torch.ones(1)], replay=True):
        assert replaying()
        assert drawn(lambda: torch.zeros(1)).item() == 1


def test_a_loss_inside_starts_its_own_backward():
    layer, criterion = Linear(2, 3), CrossEntropyLoss()
    x, target = torch.randn(4, 2), torch.tensor([0, 2, 1, 1])
    with record():
        criterion(layer(x), target)
        layer.backward(criterion.backward())
    expected = layer.weight.grad
    layer.zero_grad()
    again = Recompute(criterion)
    with record():
        again(layer(x), target)
        layer.backward(again.backward())
    torch.testing.assert_close(layer.weight.grad, expected)


@pytest.mark.parametrize(
    ("layer", "path"),
    [
        (Sequential(Linear(3, 3), Dropout(0.5)), "1, Dropout"),
        (BatchNorm1d(3), "the layer, BatchNorm1d"),  # draws nothing, so that its draws would not tell
    ],
    ids=["dropout", "batch norm"],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_mode_that_changes_in_between_is_refused(layer, path, training):
    block = Recompute(layer).train(training)
    changed = layer[1] if isinstance(layer, Sequential) else layer
    x = torch.tensor([[0.3, -1.2, 0.7], [1.1, 0.4, -0.6]])
    with record() as trace:
        y = block(x)
        changed.train(not training)
        wanted = "evaluation" if training else "training"
        with pytest.raises(TraceError, match=rf"Recompute: {path}.* was switched to {wanted} between forward and back"):
            block.backward(y)
        assert len(trace) == 0
    layer.train(training)
    with record():
        block.backward(block(x))


@pytest.mark.parametrize(("first", "second"), [(1, 0), (2, 1), (0, 1), (1, 2)])
def test_as_many_draws_the_second_time_as_the_first(first, second):
    class Counting(Module):
        counts = (first, second)

        def forward(self, x):
            count, *_ = self.counts if not replaying() else self.counts[1:]
            for _ in range(count):
                drawn(lambda: torch.rand(3))
            self.save()
            return x

        def backward(self, dy):
            self.saved()
            return dy

    block = Recompute(Counting())
    message = (
        f"draws {second} random tensors, but the first one drew {first}" if second < first else "draws more random"
    )
    with record():
        y = block(torch.ones(3))
        with pytest.raises(TraceError, match=message):
            block.backward(y)


def test_a_layer_that_changes_its_input_cannot_be_recomputed():
    class AddsOne(Module):
        def forward(self, x):
            x.add_(1)
            self.save(x)
            return x * x

        def backward(self, dy):
            (x,) = self.saved()
            return 2 * dy * x

    with pytest.raises(TraceError, match=r"Recompute: AddsOne\(\) changes its input in place"), record():
        Recompute(AddsOne())(torch.ones(3))


def test_forward_and_backward_run_under_the_same_autocast():
    block, x = Recompute(Sequential(Linear(3, 3), Tanh())), torch.ones(2, 3)
    with record() as trace:
        with torch.autocast("cpu", torch.bfloat16):
            y = block(x)
        with pytest.raises(TraceError, match="another autocast than its forward"):
            block.backward(y)
        assert len(trace) == 0
        with torch.autocast("cpu", torch.bfloat16):
            block.backward(block(x))


def test_none_for_each_of_several_inputs():
    block = Recompute(Bilinear(3, 3, 2))
    with record():
        block(torch.ones(2, 3), torch.ones(2, 3))
        assert block.backward(None) == (None, None)
