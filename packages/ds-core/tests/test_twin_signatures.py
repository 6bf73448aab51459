"""Every class with the name of one of torch's takes what that one takes."""

import ds_core
from ds_core.testing import check_signatures

# Besides what any twin may leave out (ds_core.testing.signature.MACHINERY): why these are not compared.
EXCEPTIONS = {
    "DataParallel": "no twin: it averages gradients among processes; torch.nn's splits batches among threads",
    "Embedding.sparse": "about PyTorch's sparse gradients; ours are dense",
    "Hardtanh.min_value": "deprecated for min_val",
    "Hardtanh.max_value": "deprecated for max_val",
    "Module": "the base class, which takes any arguments",
    "Optimizer": "a protocol, which is not constructed",
}


def test_signatures_are_the_twins():
    compared = check_signatures(ds_core, EXCEPTIONS)
    assert {"Linear", "Sequential", "CrossEntropyLoss", "AdamW", "OneCycleLR"} <= set(compared)
