import pytest
import torch
from ds_core.text.sampling import check_prompt, check_sampling, draw, sampler


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


def test_a_sampler_repeats_with_its_seed_and_leaves_the_global_generator_alone():
    logits, state = torch.zeros(100), torch.get_rng_state()
    texts = []
    for seed in (1, 1, 2):
        choose = sampler("mine", 1.0, None, None, seed)
        texts.append([choose(logits) for _ in range(20)])
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="mine: top_k is 0"):
        sampler("mine", 1.0, 0, None, 1)


@pytest.mark.parametrize(
    ("prompt", "count", "message"),
    [
        (torch.tensor([], dtype=torch.int64), 1, r"mine: given a prompt of shape \(0,\), expected \(T,\)"),
        (torch.tensor([[1]]), 1, r"mine: given a prompt of shape \(1, 1\)"),
        (torch.tensor([5]), 1, "mine: the prompt has tokens outside 0 to 4"),
        (torch.tensor([-1]), 1, "mine: the prompt has tokens outside 0 to 4"),
        (torch.tensor([4]), -1, "mine: given count=-1, expected 0 or more"),
    ],
)
def test_prompts_that_cannot_be_continued(prompt, count, message):
    check_prompt("mine", torch.tensor([0, 4]), 0, 5)
    with pytest.raises(ValueError, match=message):
        check_prompt("mine", prompt, count, 5)


@pytest.mark.parametrize(
    ("prompt", "count", "message"),
    [
        ([1, 2], 1, r"mine: given a prompt that is a list, expected a tensor \(T,\)"),
        (torch.tensor([1.0]), 1, "mine: given a prompt in torch.float32, expected int64"),
        (torch.tensor([1]), 2.5, "mine: given count=2.5, expected a whole number"),
    ],
)
def test_prompts_of_another_type(prompt, count, message):
    with pytest.raises(TypeError, match=message):
        check_prompt("mine", prompt, count, 5)
