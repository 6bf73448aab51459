import pytest
import torch
from ds_cnn.convolutions import merged_groups as module
from ds_cnn.convolutions.merged_groups import (
    merge,
    merged_groups,
    merged_groups_convolution,
    merged_groups_weight_gradient,
)
from technique_checks import Shapes, check_autograd, check_technique, draws


@pytest.mark.parametrize(("groups", "most"), [(3, 32), (4, 32), (4, 5), (6, 5)])
def test_against_torch(groups, most, monkeypatch):
    """With at most 5 channels in a merged group, several of them are left."""
    monkeypatch.setattr(module, "MERGED", most)
    cases = draws(15, groups=groups, channels_per_group=2)
    assert check_technique("merged_groups", cases, monkeypatch) == 15


def test_autograd_and_double_backward():
    check_autograd("merged_groups", Shapes(2, (4, 3), 4, 6, (3, 2), (2, 1), (1, 1), (1, 2), 2))


def test_worked_example():
    x, weight = torch.tensor([[[3.0], [1.0]]]), torch.tensor([[[2.0]], [[-1.0]]])
    assert merge(weight, 2, 1).flatten(1).tolist() == [[2.0, 0.0], [0.0, -1.0]]
    y = merged_groups_convolution(x, weight, None, (1,), (0,), (1,), 2)
    assert y.flatten().tolist() == [6.0, -1.0]
    dy = torch.tensor([[[1.0], [4.0]]])
    assert (dy[0] * x[0].T).tolist() == [[3.0, 1.0], [12.0, 4.0]]
    assert merged_groups_weight_gradient(dy, x, (1,), (1,), (0,), (1,), 2).flatten().tolist() == [3.0, 4.0]


def test_groups_are_merged_up_to_32_channels():
    assert merged_groups(64, 8) == 2
    assert merged_groups(128, 32) == 4
    assert merged_groups(12, 3) == 1
    assert merged_groups(72, 3) == 3  # two groups would have 48
    assert merged_groups(60, 6) == 2  # 30 each
    assert merged_groups(0, 4) == 1


def test_merged_weight_lets_each_filter_see_its_own_group():
    weight = torch.randn(8, 2, 3)
    whole = merge(weight, 4, 2)
    assert whole.shape == (8, 4, 3)
    for filter_ in range(8):
        first = filter_ // 2 % 2 * 2  # the group within its merged group, two channels each
        assert torch.equal(whole[filter_, first : first + 2], weight[filter_])
        assert not whole[filter_, 2 - first : 4 - first].any()


@pytest.mark.parametrize(("channels", "groups"), [(64, 1), (64, 2)])
def test_what_does_not_fit(channels, groups):
    x, weight = torch.zeros(1, channels, 4), torch.zeros(channels, channels // groups, 3)
    with pytest.raises(ValueError, match=f"merged_groups: given channels=64 and groups={groups}"):
        merged_groups_convolution(x, weight, None, (1,), (0,), (1,), groups)
