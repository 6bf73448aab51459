import pytest
import torch
from ds_core.testing import check_layer
from ds_rnn.sequences.rows_of_images import RowsOfImages


def test_worked_example():
    # docs/rows_of_images.md
    images = torch.arange(1.0, 9.0).view(1, 2, 2, 2)
    assert RowsOfImages()(images).tolist() == [[[1, 2, 5, 6], [3, 4, 7, 8]]]
    assert RowsOfImages(pixels=True)(images).tolist() == [[[1, 5], [2, 6], [3, 7], [4, 8]]]


@pytest.mark.parametrize("pixels", [True, False])
def test_layer(pixels):
    check_layer(RowsOfImages(pixels), torch.randn(2, 2, 3, 4))
