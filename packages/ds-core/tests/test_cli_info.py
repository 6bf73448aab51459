"""What `ds info` says."""

import torch
from ds_core.cli.info import environment_table


def test_environment():
    table = dict(environment_table())
    assert table["torch"].startswith(torch.__version__.split("+")[0])
    assert table["devices"].startswith("cpu")
    assert table["threads"].startswith(f"{torch.get_num_threads()} of")
