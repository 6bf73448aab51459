"""Padding in a batch of texts."""

import pytest
import torch
from ds_core import ShapeError
from ds_zoo import MiniGPT, MiniGPTConfig
from ds_zoo.minigpt.masks import padded_keys, positions_in

MODEL = MiniGPT(MiniGPTConfig(9, 6, 1, 2, 8))


def test_positions_count_the_real_tokens():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]])
    expected = [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4], [0, 0, 1, 1, 2], [0, 0, 0, 0, 0]]
    assert positions_in(mask).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
def test_masks_of_any_kind_of_number(dtype):
    mask = torch.tensor([[0, 1, 1]]).to(dtype)
    assert padded_keys(mask, 1, 3).tolist() == [[True, False, False]]


@pytest.mark.parametrize("shape", [(2, 3), (2, 5), (1, 4), (4,), (2, 1, 4)])
def test_masks_that_do_not_fit(shape):
    with pytest.raises(ShapeError, match=r"MiniGPT: given attention_mask .*, expected \(2, 4\): one number"):
        MODEL(torch.zeros(2, 4, dtype=torch.int64), attention_mask=torch.ones(shape))


@pytest.mark.parametrize(
    ("position_ids", "error", "message"),
    [
        (torch.tensor([0, 1]), ShapeError, r"position_ids \(2,\), expected \(2, 3\)"),
        (torch.tensor([[0, 1, 6]]), IndexError, "position_ids with 6, expected 0 ... 5"),
        (torch.tensor([[0.0, 1.0, 2.0]]), ShapeError, "position_ids of torch.float32"),
    ],
)
def test_positions_that_do_not_fit(position_ids, error, message):
    with pytest.raises(error, match=message):
        MODEL(torch.zeros(2, 3, dtype=torch.int64), position_ids=position_ids)
