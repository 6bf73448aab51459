"""Two processes with a share of the batch each, against one with all of it."""

import multiprocessing

import clip_processes
import pytest
import torch
from ds_core.training.gradients import backpropagate


@pytest.mark.parametrize("with_groups", [False, True])
def test_two_processes_find_the_loss_and_every_gradient_of_one(with_groups, tmp_path):
    context, port = multiprocessing.get_context("spawn"), clip_processes.free_port()
    started = [
        context.Process(target=clip_processes.share, args=(rank, port, str(tmp_path), with_groups)) for rank in (0, 1)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        assert process.exitcode == 0
    model, inputs, groups = clip_processes.whole(with_groups)
    loss = backpropagate(model, model.criterion(), [(inputs, groups)])
    expected = clip_processes.gradients(model)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for one in found:
        assert one["loss"] == pytest.approx(float(loss), rel=1e-12)
        assert one["alone"] != pytest.approx(float(loss), rel=1e-3)
        for name, gradient in expected.items():
            torch.testing.assert_close(one[name], gradient, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
