import pytest
import torch
from ds_core.text.blocks import RandomBlocks, consecutive_blocks


def test_a_batch_depends_on_seed_and_index_alone():
    text = torch.arange(1000)
    blocks = RandomBlocks(text, 8, 4, seed=1)
    later = [blocks.batch(index)[0] for index in (0, 1, 2)]
    state = torch.get_rng_state()
    assert torch.equal(RandomBlocks(text, 8, 4, seed=1).batch(2)[0], later[2])
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(later[0], later[1])
    assert not torch.equal(RandomBlocks(text, 8, 4, seed=2).batch(2)[0], later[2])


def test_targets_follow_inputs_and_every_place_is_reached():
    blocks = RandomBlocks(torch.arange(12), 4, 64)
    inputs, targets = blocks.batch(0)
    assert inputs.shape == targets.shape == (64, 4)
    assert torch.equal(inputs + 1, targets)
    assert set(inputs[:, 0].tolist()) == set(range(8))


def test_too_few_tokens():
    assert RandomBlocks(torch.arange(5), 4, 2).batch(0)[0].tolist() == [[0, 1, 2, 3]] * 2
    with pytest.raises(ValueError, match="4 tokens, expected at least block_size \\+ 1 = 5"):
        RandomBlocks(torch.arange(4), 4, 2)


@pytest.mark.parametrize("length", [1, 2, 4, 5, 6, 24, 25, 26])
def test_consecutive_blocks_predict_every_token_once(length):
    batches = list(consecutive_blocks(torch.arange(length), 4, 3))
    assert all(torch.equal(inputs + 1, targets) for inputs, targets in batches)
    assert all(inputs.shape[0] <= 3 and inputs.shape[1] <= 4 for inputs, _ in batches)
    assert torch.cat([targets.flatten() for _, targets in batches] or [torch.empty(0)]).tolist() == [*range(1, length)]
