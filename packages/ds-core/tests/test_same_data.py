"""A run is not resumed with other data."""

import hashlib

import numpy as np
import pytest
import torch
from ds_core import CheckpointError
from ds_core.training.same_data import SameData, digest_of


def test_the_same_data_are_taken_and_others_refused(small, tmp_path):
    small.make(tmp_path, callbacks=[SameData("abc", "the text a.txt")]).fit(small.Points(), 1)
    again = small.make(tmp_path, callbacks=[SameData("abc", "the text b.txt")])
    assert again.resume()
    other = small.make(tmp_path, callbacks=[SameData("abd", "the text b.txt")])
    with pytest.raises(CheckpointError, match=r"^cannot resume with the text b\.txt: the run began with other data$"):
        other.resume()


def test_a_digest_is_of_the_bytes_in_their_order():
    x, y = torch.arange(6.0).view(2, 3), torch.tensor([1, 2])
    expected = hashlib.sha256(np.arange(6, dtype=np.float32).tobytes() + np.array([1, 2]).tobytes()).hexdigest()
    assert digest_of(x, y) == expected
    assert digest_of(x.t().contiguous().t(), y) == expected  # not of how they lie in memory
    assert digest_of(y, x) != expected
    assert digest_of(x.bfloat16()) != digest_of(x)
    assert digest_of(torch.tensor(True)) != digest_of(torch.tensor(False))
