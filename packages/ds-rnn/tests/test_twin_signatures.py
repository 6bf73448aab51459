"""Every class with the name of one of torch's takes what that one takes."""

import ds_rnn
from ds_core.testing import check_signatures


def test_signatures_are_the_twins():
    assert "RNNCell" in check_signatures(ds_rnn)
