import pytest
import torch
from ds_core.optimizers.update_rule import (
    counted_,
    decay_,
    decay_all_,
    effective_gradient,
    effective_gradients_,
    move_,
    move_all_,
    number,
    quotient,
)

COUPLED = {"lr": 0.1, "weight_decay": 0.5, "maximize": False}
DECOUPLED = {**COUPLED, "decoupled_weight_decay": True}


def test_worked_example():
    weight = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.float64)
    gradient = torch.tensor([[0.5, -2.0], [0.0, 10.0]], dtype=torch.float64)
    effective = effective_gradient(gradient, weight, COUPLED)
    torch.testing.assert_close(effective.tolist(), [[1.0, -3.0], [0.25, 12.0]])
    uphill = effective_gradient(gradient, weight, {**COUPLED, "maximize": True})
    torch.testing.assert_close(uphill.tolist(), [[0.0, 1.0], [0.25, -8.0]])
    coupled, decoupled = weight.clone(), weight.clone()
    move_(coupled, (effective, None), 0.1)
    torch.testing.assert_close(coupled.tolist(), [[0.9, -1.7], [0.475, 2.8]])
    assert effective_gradient(gradient, weight, DECOUPLED) is gradient
    decay_(decoupled, DECOUPLED)
    move_(decoupled, (gradient * 4, torch.full_like(gradient, 4)), 0.1)
    torch.testing.assert_close(decoupled.tolist(), [[0.9, -1.7], [0.475, 2.8]])


@pytest.mark.parametrize("options", [COUPLED, DECOUPLED, {**DECOUPLED, "lr": torch.tensor(0.1)}], ids=str)
@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("size", [0.3, torch.tensor(0.3, dtype=torch.float64)])
@pytest.mark.parametrize("divided", [True, False])
def test_many_at_once_as_one_by_one(options, maximize, size, divided):
    options = {**options, "maximize": maximize}
    generator = torch.Generator().manual_seed(0)
    shapes = [(3,), (), (2, 4)]
    start, gradients, denominators = (
        [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes] for _ in range(3)
    )
    alone = [tensor.clone() for tensor in start]
    for parameter, gradient, denominator in zip(alone, gradients, denominators, strict=True):
        effective = effective_gradient(gradient, parameter, options)
        decay_(parameter, options)
        move_(parameter, (effective, denominator if divided else None), size)
    together, effective = [tensor.clone() for tensor in start], [tensor.clone() for tensor in gradients]
    effective_gradients_(effective, together, options)
    decay_all_(together, options)
    move_all_(together, effective, denominators if divided else None, size)
    torch.testing.assert_close(together, alone, rtol=1e-14, atol=0)


def test_given_gradient_stays_and_out_is_used():
    gradient, parameter, work = torch.tensor([1.0]), torch.tensor([2.0]), torch.empty(1)
    effective = effective_gradient(gradient, parameter, {**COUPLED, "maximize": True}, out=work)
    assert effective is work
    assert effective.item() == 0.0
    assert gradient.item() == 1.0


def test_a_quotient_is_taken_at_once_in_memory_to_work_in():
    numerator, denominator = torch.tensor([6.0, 1.0]), torch.tensor([2.0, 4.0])
    assert quotient(numerator, denominator, None) == (numerator, denominator)
    assert quotient(numerator, denominator, torch.empty(2)) == (numerator, denominator)
    assert numerator.tolist() == [6.0, 1.0]
    divided, rest = quotient(numerator, denominator, numerator)
    assert divided is numerator
    assert rest is None
    assert divided.tolist() == [3.0, 0.25]
    assert denominator.tolist() == [2.0, 4.0]


def test_options_that_an_optimizer_does_not_have():
    gradient = torch.tensor([1.0])
    assert effective_gradient(gradient, gradient, {"weight_decay": 0}) is gradient


def test_numbers():
    assert number(0.5) == 0.5
    assert number(torch.tensor([0.5])) == 0.5
    assert isinstance(number(torch.tensor(0.5)), float)
    assert number(torch.tensor([0.5], device="meta")).shape == ()
    assert counted_(torch.tensor(0.0, device="meta")).dtype == torch.float64  # 0.999 to a power needs the digits
    step = torch.tensor(4.0)
    assert counted_(step) == 5.0
    assert step.item() == 5.0
