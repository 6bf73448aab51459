"""Half precision is widened, anything else left alone."""

import pytest
import torch
from ds_core.speed.precision import to_floating, widened, without_autocast


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    assert widened(torch.ones(2, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_is_left_alone(dtype: torch.dtype) -> None:
    x = torch.ones(2, dtype=dtype)
    assert widened(x) is x


def test_integers_become_numbers_of_the_default_dtype() -> None:
    assert to_floating(torch.tensor([1, 2])).dtype == to_floating(torch.tensor([True])).dtype == torch.float32
    x = torch.ones(2, dtype=torch.bfloat16)
    assert to_floating(x) is x


def test_a_function_without_autocast_chooses_its_precision() -> None:
    @without_autocast
    def product(x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, x)

    x = torch.eye(2) * (1 + 2**-12)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.mm(x, x).dtype == torch.bfloat16
        assert torch.equal(product(x), torch.mm(x.double(), x.double()).float())
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(product(x), torch.mm(x, x))
