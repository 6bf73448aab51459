"""Bridges to plain PyTorch: our layer as a torch.nn.Module, and theirs as our layer. Theory: docs/interop.md."""

from ds_core.interop.from_torch import from_autograd, from_torch
from ds_core.interop.torch_module import as_torch
from ds_core.interop.torch_optimizer import as_torch_optimizer

__all__ = ["as_torch", "as_torch_optimizer", "from_autograd", "from_torch"]
