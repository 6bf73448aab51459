import pytest
import torch
from ds_cnn import PENALTY_RULES, BatchNorm2d, Conv2d, GradientPenalty
from ds_core import Dropout, Identity, Linear, Sequential, SiLU, record


def by_hand(critic, x):
    """Penalties, and the weights' gradients of their mean."""
    critic.zero_grad()
    penalty = GradientPenalty(critic)
    with record():
        penalties = penalty(x)
        penalty.backward(torch.full_like(penalties, 1 / len(x)))
    return penalties, {name: parameter.grad for name, parameter in critic.named_parameters()}


@pytest.mark.parametrize("layer", [BatchNorm2d(2), SiLU(), Dropout()])
def test_layers_without_a_rule_are_refused(layer):
    with pytest.raises(TypeError, match=rf"gradient penalty: the critic holds {type(layer).__name__}"):
        GradientPenalty(Sequential(Conv2d(1, 2, 3), layer))


def test_a_sequential_with_a_forward_of_its_own_is_refused():
    class Twice(Sequential):
        def forward(self, input):
            return super().forward(super().forward(input))

    with pytest.raises(TypeError, match="gradient penalty: the critic holds Twice"):
        GradientPenalty(Twice(Linear(1, 1)))


def test_a_rule_of_your_own():
    class Half(Identity):
        def forward(self, input):
            self.save()
            return input / 2

    def half(layer, kept, u):
        return u / 2

    PENALTY_RULES[Half] = PENALTY_RULES[Identity]._replace(
        forward=lambda layer, s: (s / 2, None), back=half, along=half
    )
    try:
        critic, other = Sequential(Half(), Linear(3, 1)).double(), Sequential(Linear(3, 1)).double()
        with torch.no_grad():
            other[0].weight.copy_(critic[1].weight / 2)
        x = torch.randn(2, 3, dtype=torch.float64)
        torch.testing.assert_close(by_hand(critic, x)[0], by_hand(other, x)[0])
        torch.testing.assert_close(by_hand(critic, x)[1]["1.weight"], by_hand(other, x)[1]["0.weight"] / 2)
    finally:
        del PENALTY_RULES[Half]
