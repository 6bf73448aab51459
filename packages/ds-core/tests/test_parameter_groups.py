import math

import pytest
import torch
from ds_core import SGD, Linear
from ds_core.optimizers.parameter_groups import as_groups, check_at_least_zero, check_learning_rate, complete_group


def leaf(*shape):
    return torch.zeros(shape, requires_grad=True)


def test_what_params_may_be():
    a, b, c = leaf(1), leaf(2), leaf(3)
    for params in ([a, b], (a, b), iter([a, b]), {"x": a, "y": b}.values()):
        assert SGD(params).param_groups[0]["params"] == [a, b]
    named = SGD([("x", a), ("y", b)])
    assert named.param_groups[0]["params"] == [a, b]
    assert named.param_groups[0]["param_names"] == ["x", "y"]
    model = torch.nn.Linear(2, 3)
    assert SGD(model.named_parameters()).param_groups[0]["param_names"] == ["weight", "bias"]
    groups = SGD([{"params": [a], "lr": 0.5}, {"params": iter([b])}, {"params": c, "mine": 7}], lr=0.1).param_groups
    assert [group["lr"] for group in groups] == [0.5, 0.1, 0.1]
    assert [group["params"] for group in groups] == [[a], [b], [c]]
    assert groups[2]["mine"] == 7


def test_groups_given_are_not_changed():
    group = {"params": [leaf(1)]}
    SGD([group])
    assert list(group) == ["params"]


def test_groups_have_the_keys_of_torch():
    for ours, theirs in (
        (SGD([leaf(1)]), torch.optim.SGD([leaf(1)])),
        (SGD([("x", leaf(1))]), torch.optim.SGD([("x", leaf(1))])),
    ):
        options = {name: value for name, value in ours.param_groups[0].items() if name not in ("params", "capturable")}
        assert options == {name: value for name, value in theirs.param_groups[0].items() if name != "params"}


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (torch.zeros(2), TypeError, r"an iterable of Tensors or dicts, but got a Tensor of shape \(2,\)"),
        (
            Linear(2, 3),
            TypeError,
            r"Linear itself: write its parameters\(\), as in AdamW\(model.parameters\(\)\)",
        ),
        (torch.nn.Linear(2, 3), TypeError, r"but got Linear itself: write its parameters\(\)"),
        (Linear, TypeError, r"but got Linear itself: write its parameters\(\)"),
        (None, TypeError, r"an iterable of Tensors or dicts, such as model.parameters\(\), but got None"),
        (0.1, TypeError, r"an iterable of Tensors or dicts, such as model.parameters\(\), but got 0.1"),
        ([], ValueError, "empty parameter list"),
        (iter([]), ValueError, "empty parameter list"),
        ([1.0], TypeError, "can only optimize Tensors, but one of the params is float"),
        ([[torch.zeros(1)]], TypeError, "one of the params is list"),
        ([leaf(2) * 2], ValueError, r"can't optimize a non-leaf Tensor \(of shape \(2,\)\)"),
        (
            [torch.zeros(2, dtype=torch.complex64, requires_grad=True)],
            ValueError,
            "complex parameters are not supported",
        ),
        ([("x", leaf(1)), leaf(2)], ValueError, "Some param names are missing"),
        ([{"params": [leaf(1)]}, {"params": [("x", leaf(1))]}], ValueError, "cannot add param group with names"),
        ([{"params": [("x", leaf(1))]}, {"params": [leaf(1)]}], ValueError, "cannot add param group without names"),
        ([{"params": {leaf(1)}}], TypeError, "ordered collections"),
        ([{"params": [leaf(1)], "lr": -1.0}], ValueError, "Invalid learning rate: -1.0"),
    ],
)
def test_mistakes_are_named(params, error, message):
    with pytest.raises(error, match=message):
        SGD(params)


def test_a_parameter_twice_is_refused():
    a = leaf(1)
    with pytest.raises(ValueError, match="appear more than once in a parameter group"):
        SGD([a, a])
    with pytest.raises(ValueError, match="appear in more than one parameter group"):
        SGD([{"params": [a]}, {"params": [a]}])
    optimizer = SGD([a])
    with pytest.raises(ValueError, match="appear in more than one parameter group"):
        optimizer.add_param_group({"params": [a]})
    with pytest.raises(TypeError, match="param_group must be a dict"):
        optimizer.add_param_group([leaf(1)])
    assert len(optimizer.param_groups) == 1


def test_a_retained_gradient_makes_a_tensor_optimizable():
    middle = leaf(2) * 2
    middle.retain_grad()
    assert SGD([middle]).param_groups[0]["params"] == [middle]


def test_helpers():
    assert as_groups([{"params": 1}]) == [{"params": 1}]
    assert complete_group({"params": []}, {"lr": 1.0}, []) == {"params": [], "lr": 1.0}
    check_at_least_zero("x", 0)
    check_learning_rate(torch.tensor([0.1]))
    for value in (-1, -1e-30, math.nan, -math.inf):
        with pytest.raises(ValueError, match="Invalid x: "):
            check_at_least_zero("x", value)
