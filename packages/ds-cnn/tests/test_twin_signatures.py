"""Every class with the name of one of torch's takes what that one takes."""

import ds_cnn
from ds_core.testing import check_signatures


def test_signatures_are_the_twins():
    assert "AvgPool2d" in check_signatures(ds_cnn)
