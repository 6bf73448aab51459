"""Several processes train as one does on the same global batches, to rounding error."""

import pytest
import torch
from distributed_models import SMALL, loop, train
from several_processes import together

CLOSE = {"rtol": 1e-12, "atol": 1e-13}


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"clip_norm": 0.5}, {"accumulate": 3, "clip_norm": 0.3}], ids=["plain", "clipped", "accumulated"]
)
def test_the_trajectory_is_that_of_one_process(tmp_path, world_size, options):
    weights, records = train(options)
    for their_weights, their_records in together(world_size, train, options, folder=tmp_path):
        torch.testing.assert_close(their_weights, weights, **CLOSE)
        torch.testing.assert_close(their_records, records, **CLOSE)


@pytest.mark.parametrize("first_batch", [0, 6])  # with 6 the two begin with different layers
@pytest.mark.parametrize("sizes", [SMALL, {}], ids=["many buckets", "one bucket"])
def test_parameters_used_on_some_processes_and_in_some_steps(tmp_path, sizes, first_batch):
    """A gradient that is there on one rank alone, calls that become more and fewer, buckets that go too early."""
    weights, _ = loop(first=first_batch, world_size=2)
    (first, late), (second, other_late) = together(2, loop, sizes, first_batch, folder=tmp_path)
    torch.testing.assert_close(first, weights, **CLOSE)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    if sizes:
        assert late + other_late > 0
    else:
        assert late + other_late == 0
