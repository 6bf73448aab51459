"""Numbers from one end of a dtype to the other, and what is found for them beside what is right."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def numbers(dtype: torch.dtype, largest: float = 1.0, per_power: Iterable[float] = (1.0, 1.3125)) -> list[float]:
    """0, the powers of 2 and numbers between them from the least subnormal up to `largest` times the largest number,
    and where functions saturate; each with both signs."""
    finfo = torch.finfo(dtype)
    least, most = (round(math.log2(value)) for value in (finfo.tiny * finfo.eps, finfo.max))
    step = max(1, (most - least) // 80)
    found = [math.ldexp(part, power) for power in range(least, most, step) for part in per_power]
    found += [0.0, finfo.tiny, finfo.eps, 22.0, *(i / 4 for i in range(48)), *(float(i) for i in range(12, 130, 3))]
    found += [finfo.max, finfo.max / 2, 0.9 * math.sqrt(finfo.max), 1.3 * math.sqrt(finfo.max)]
    kept = torch.tensor([value for value in found if value <= largest * finfo.max], dtype=torch.float64)
    return torch.cat([kept, -kept]).to(dtype).unique().tolist()


def assert_right(found: Tensor, right: Tensor, near: Tensor | float, title: str, rtol: float = 0.0) -> None:
    """Where `right`, of a wider dtype, is finite in the dtype of `found`, that is right: finite, and within `near`
    units in the last place of 1 and 16 of its own, or `rtol` of it."""
    eps = torch.finfo(found.dtype).eps
    defined = right.to(found.dtype).isfinite()
    lost = defined & ~found.isfinite()
    assert not lost.any(), f"{title}: {found[lost][:3].tolist()} where {right[lost][:3].tolist()} is right"
    error = (found.double() - right).abs()[defined]
    allowed = (max(16 * eps, rtol) * right.abs() + eps * near).expand_as(right)[defined]
    worst = (error - allowed).argmax() if error.numel() > 0 else None
    assert worst is None or error[worst] <= allowed[worst], (
        f"{title}: {found[defined][worst].item()} where {right[defined][worst].item()} is right"
    )
