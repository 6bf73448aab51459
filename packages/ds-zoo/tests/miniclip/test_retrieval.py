import pytest
import torch
from ds_zoo.miniclip.retrieval import recall_at, retrieval, zero_shot_accuracy


def test_worked_example():
    """docs/miniclip/retrieval.md"""
    similarities = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.3, 0.4, 0.2]])
    assert recall_at(similarities, 1) == pytest.approx(0.3333, abs=5e-5)
    assert recall_at(similarities, 2) == pytest.approx(0.6667, abs=5e-5)
    assert recall_at(similarities, 3) == 1.0
    assert recall_at(similarities.t(), 1) == pytest.approx(0.6667, abs=5e-5)  # the tie in the last column counts
    images = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    assert zero_shot_accuracy(torch.eye(2), images, torch.tensor([1, 1])) == 0.5


def test_draws_and_nan_count_against_it():
    assert recall_at(torch.ones(4, 4), 3) == 0.0
    assert recall_at(torch.full((4, 4), float("nan")), 3) == 0.0


def test_both_ways():
    texts = torch.eye(3)
    images = torch.tensor([[1.0, 0, 0], [0.9, 0.4, 0], [0.0, 0.1, 0.9]])
    found = retrieval(texts, images)
    assert found["image by caption, recall@1"] == 1.0
    assert found["caption by image, recall@1"] == pytest.approx(2 / 3)
    assert found["caption by image, recall@5"] == 1.0


def test_zero_shot():
    prompts = torch.eye(3)
    images = torch.tensor([[0.9, 0.1, 0], [0, 0.2, 0.8]])
    assert zero_shot_accuracy(prompts, images, torch.tensor([0, 1])) == 0.5
