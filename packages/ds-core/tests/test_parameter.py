import threading

import pytest
import torch
from ds_core import accumulate, parameter
from ds_core.engine.parameter import frozen


def test_a_parameter_is_a_plain_leaf_on_the_same_memory():
    data = torch.randn(3)
    weight = parameter(data)
    assert type(weight) is torch.Tensor
    assert weight.is_leaf
    assert weight.requires_grad
    assert weight.data_ptr() == data.data_ptr()
    assert not data.requires_grad


def test_a_computed_tensor_becomes_a_leaf():
    scaled = torch.randn(3, requires_grad=True) * 0.1
    assert not scaled.is_leaf
    assert parameter(scaled).is_leaf


def test_the_first_gradient_is_owned_without_a_copy():
    weight, gradient = parameter(torch.zeros(3)), torch.ones(3)
    accumulate(weight, gradient)
    assert weight.grad is gradient


def test_later_gradients_are_added_in_place():
    weight, first = parameter(torch.zeros(3)), torch.ones(3)
    second = torch.full((3,), 2.0)
    accumulate(weight, first)
    accumulate(weight, second)
    assert weight.grad is first
    assert weight.grad.tolist() == [3, 3, 3]
    assert second.tolist() == [2, 2, 2]


@pytest.mark.parametrize(("own", "given"), [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)])
def test_gradients_take_the_parameters_dtype(own, given):
    weight = parameter(torch.zeros(2, dtype=own))
    for _ in range(2):
        accumulate(weight, torch.ones(2, dtype=given))
        assert weight.grad.dtype == own
    assert weight.grad.tolist() == [2, 2]


def test_frozen_and_absent_parameters_take_nothing():
    frozen = parameter(torch.zeros(2)).requires_grad_(False)
    accumulate(frozen, torch.ones(2))
    assert frozen.grad is None
    accumulate(None, torch.ones(2))


def test_none_means_zeros():
    weight = parameter(torch.zeros(2))
    accumulate(weight, None)
    assert weight.grad is None
    accumulate(weight, torch.ones(2))
    accumulate(weight, None)
    assert weight.grad.tolist() == [1, 1]


def test_a_gradient_of_another_shape_is_refused():
    weight = parameter(torch.zeros(2, 3))
    for gradient in (torch.ones(3), torch.ones(3, 2), torch.ones(1, 3)):
        with pytest.raises(ValueError, match=r"parameter of shape \(2, 3\)"):
            accumulate(weight, gradient)
    assert weight.grad is None


def test_accumulating_outside_record_leaves_no_graph():
    weight = parameter(torch.zeros(2))
    source = torch.ones(2, requires_grad=True)
    accumulate(weight, torch.ones(2))
    accumulate(weight, source * 2)
    assert weight.grad.tolist() == [3, 3]
    assert weight.grad.grad_fn is None


def test_threads_that_share_a_parameter_lose_no_gradient():
    shared, times = parameter(torch.zeros(256, 256)), 100

    def work():
        for _ in range(times):
            accumulate(shared, torch.ones(256, 256))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(shared.grad, torch.full((256, 256), 4.0 * times))


def test_frozen():
    """Whatever happens inside, those that were trained before are trained after, and no others."""
    trained, still = parameter(torch.zeros(2)), parameter(torch.zeros(2)).requires_grad_(False)
    with frozen([trained, still]):
        assert not trained.requires_grad
        accumulate(trained, torch.ones(2))
    with pytest.raises(KeyError), frozen([trained]):
        raise KeyError
    assert trained.requires_grad
    assert trained.grad is None
    assert not still.requires_grad
