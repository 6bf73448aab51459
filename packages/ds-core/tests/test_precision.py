"""Half precision is widened, anything else left alone."""

import pytest
import torch
from ds_core.precision import widened


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    assert widened(torch.ones(2, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_is_left_alone(dtype: torch.dtype) -> None:
    x = torch.ones(2, dtype=dtype)
    assert widened(x) is x
