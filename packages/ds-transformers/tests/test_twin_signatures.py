"""Every class with the name of one of torch's takes what that one takes."""

import ds_transformers
from ds_core.testing import check_signatures

ACTIVATION = "the default is a function of torch.nn.functional there, and that function's name here"
EXCEPTIONS = {
    f"{name}.activation": ACTIVATION for name in ("Transformer", "TransformerEncoderLayer", "TransformerDecoderLayer")
}


def test_signatures_are_the_twins():
    assert "MultiheadAttention" in check_signatures(ds_transformers, EXCEPTIONS)
