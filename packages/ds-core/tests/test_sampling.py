import pytest
import torch
from ds_core.text.sampling import check_sampling, draw


def frequencies(count=2000, **options):
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([draw(logits, generator=generator, **options) for _ in range(count)])
    return (torch.bincount(drawn, minlength=4) / count).tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.5, 0.25, 0.15, 0.1]),
        ({"temperature": 0}, [1.0, 0.0, 0.0, 0.0]),
        ({"temperature": 1e-40}, [1.0, 0.0, 0.0, 0.0]),
        ({"temperature": 1e-46}, [1.0, 0.0, 0.0, 0.0]),
        ({"temperature": 5e-324, "top_p": 0.9}, [1.0, 0.0, 0.0, 0.0]),
        ({"temperature": 0.5}, [0.7246, 0.1812, 0.0652, 0.0290]),
        ({"top_k": 2}, [0.6667, 0.3333, 0.0, 0.0]),
        ({"top_k": 9}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_p": 0.7}, [0.6667, 0.3333, 0.0, 0.0]),
        ({"top_p": 0.8}, [0.5556, 0.2778, 0.1667, 0.0]),
        ({"top_p": 0.01}, [1.0, 0.0, 0.0, 0.0]),
        ({"top_p": 1.0}, [0.5, 0.25, 0.15, 0.1]),
    ],
)
def test_worked_example(options, expected):
    # docs/sampling.md
    found = frequencies(**options)
    assert found == pytest.approx(expected, abs=0.04)
    assert [share == 0 for share in found] == [share == 0 for share in expected]


def test_top_p_keeps_no_token_more_than_it_takes():
    generator = torch.Generator().manual_seed(0)
    assert {draw(torch.zeros(4), top_p=0.5, generator=generator) for _ in range(50)} == {0, 1}


def test_order_of_the_logits_does_not_matter_to_the_filters():
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([-5.0, 3.0, -5.0, 2.9])
    assert {draw(logits, top_k=2, generator=generator) for _ in range(50)} == {1, 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1.0}, "mine: temperature is -1.0, expected a finite number, 0 or more"),
        ({"temperature": float("nan")}, "mine: temperature is nan"),
        ({"top_k": 0}, "mine: top_k is 0, expected at least 1"),
        ({"top_p": 0.0}, "mine: top_p is 0.0, expected 0 < top_p <= 1"),
        ({"top_p": 1.5}, "mine: top_p is 1.5"),
    ],
)
def test_arguments_that_make_no_sense(change, message):
    with pytest.raises(ValueError, match=message):
        check_sampling("mine", **{"temperature": 1.0, "top_k": None, "top_p": None, **change})
