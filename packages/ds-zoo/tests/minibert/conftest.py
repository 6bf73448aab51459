"""What the tests of MiniBERT share."""

import sys
from pathlib import Path

import pytest
import torch

# pytest's importlib mode puts no folder on the path, and tests share bert_twins.py
sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def float64():
    """The default dtype, in which transformers' losses build their constants."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
