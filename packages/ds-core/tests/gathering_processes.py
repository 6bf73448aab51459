"""What each process does in the tests of gathered rows."""

import torch
from ds_core import Processes, record
from ds_core.distributed.gather_rows import GatherRows, gathered_rows


def passes(cases):
    """Forward and backward of this process's rows for each case: parts, gradients, and `how` they are gone through.

    `how`: handwritten, autograd, or parameters (no input gradient).
    """
    with Processes() as processes:
        found = []
        for parts, gradients, how in cases:
            x, dy = parts[processes.rank].clone(), gradients[processes.rank]
            layer = GatherRows()
            if how == "autograd":
                leaf = x.clone().requires_grad_()
                y = layer(leaf)
                y.backward(torch.zeros_like(y) if dy is None else dy)
                found.append((y.detach(), leaf.grad))
                continue
            kept = None if dy is None else dy.clone()
            with record():
                y = layer(x)
                dx = layer.backward(dy, input_gradient=how != "parameters")
            assert torch.equal(x, parts[processes.rank])
            assert kept is None or torch.equal(kept, dy)
            found.append((y, dx))
        return found


def whole_numbers(counts):
    """Rows of whole numbers, and where this process's begin."""
    with Processes() as processes:
        own = torch.arange(counts[processes.rank]) + 100 * processes.rank
        return gathered_rows(own)
