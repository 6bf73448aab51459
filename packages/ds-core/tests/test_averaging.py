"""The mean of weights: from files, from the evaluations of a run that is killed and resumed, and why it helps."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ds_core import (
    AdamW,
    CheckpointError,
    Dropout,
    Embedding,
    KeepEvery,
    Linear,
    Module,
    MSELoss,
    Sequential,
    Trainer,
    no_record,
    save_checkpoint,
)
from ds_core.training.averaging import AverageLast, average_weights
from hypothesis import given, settings
from hypothesis import strategies as st


def write(folder: Path, *states: dict[str, torch.Tensor]) -> list[Path]:
    paths = [folder / f"{i}.safetensors" for i in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        save_checkpoint(path, model=SimpleNamespace(state_dict=lambda state=state: state))
    return paths


@given(
    count=st.integers(1, 5),
    shape=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_the_mean_is_rounded_once(
    tmp_path_factory: pytest.TempPathFactory, count: int, shape: list[int], dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = [{"w": torch.randn(shape, generator=generator).to(dtype), "n": torch.tensor(i)} for i in range(count)]
    found = average_weights(write(tmp_path_factory.mktemp("files"), *states))
    exact = torch.stack([state["w"].double() for state in states]).sum(0) / count
    assert found["w"].dtype == dtype
    torch.testing.assert_close(found["w"], exact.to(dtype), rtol=1e-15 if dtype == torch.float64 else 0, atol=0)
    assert torch.equal(found["n"], torch.tensor(count - 1))


def test_numbers_that_float32_or_bfloat16_would_lose(tmp_path: Path) -> None:
    for dtype, large in ((torch.float32, 2.0**25), (torch.bfloat16, 256.0)):
        states = [{"w": torch.tensor([x], dtype=dtype)} for x in (large, 1.0, 1.0, -large)]
        assert average_weights(write(tmp_path, *states))["w"].item() == 0.5


def test_counters_and_masks_are_those_of_the_last(tmp_path: Path) -> None:
    states = [{"count": torch.tensor([i]), "mask": torch.tensor([i % 2 == 0])} for i in range(3)]
    found = average_weights(write(tmp_path, *states))
    assert torch.equal(found["count"], torch.tensor([2]))
    assert torch.equal(found["mask"], torch.tensor([True]))
    assert found["mask"].dtype == torch.bool


class Tied(Module):
    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.tokens = Embedding(5, 3)
        self.out = Linear(3, 5, bias=False)
        self.out.weight = self.tokens.weight


def test_checkpoints_with_tied_weights(tmp_path: Path) -> None:
    """As save_checkpoint writes them, once under the first name; the optimizer in the file is not averaged."""
    models = [Tied(seed) for seed in range(3)]
    for i, model in enumerate(models):
        save_checkpoint(tmp_path / f"{i}.safetensors", model=model, optimizer=AdamW(model.parameters()), step=i)
    found = average_weights([tmp_path / f"{i}.safetensors" for i in range(3)])
    assert list(found) == ["tokens.weight", "out.weight"]
    mean = sum(model.tokens.weight.detach().double() for model in models) / 3
    for tensor in found.values():
        assert torch.equal(tensor, mean.float())
    models[0].load_state_dict(found)
    assert models[0].out.weight is models[0].tokens.weight


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    first = {"a": torch.zeros(2), "b": torch.zeros(3)}
    for other, message in (
        ({"a": torch.zeros(2)}, r"1.safetensors has no b, but .*0.safetensors has"),
        ({**first, "c": torch.zeros(1)}, r"0.safetensors has no c, but .*1.safetensors has"),
        ({**first, "b": torch.zeros(4)}, r"1.safetensors has b of shape \(4,\) in .*, .*0.safetensors of shape \(3,\)"),
        (
            {**first, "b": torch.zeros(3).half()},
            r"has b of shape \(3,\) in torch.float16, .* in torch.float32",
        ),
    ):
        with pytest.raises(CheckpointError, match=message) as raised:
            average_weights(write(tmp_path, first, other))
        assert "\n" not in str(raised.value)
    with pytest.raises(CheckpointError, match=r"missing.safetensors: there is no such file"):
        average_weights([*write(tmp_path, first), tmp_path / "missing.safetensors"])
    with pytest.raises(ValueError, match="average_weights: given no path"):
        average_weights([])
    with pytest.raises(ValueError, match="AverageLast: given count=0"):
        AverageLast(0)
    with pytest.raises(ValueError, match="AverageLast: there has been no evaluation"):
        AverageLast().mean()


class Lines:
    def batch(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(4, 3, generator=torch.Generator().manual_seed(index))
        return x, x.sum(1, keepdim=True)


class Killed:
    """Ends the process' work after a step, as far as the trainer can tell."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        if trainer.step == self.step:
            raise MemoryError


def run(folder: Path, count: int, *callbacks: Any) -> tuple[Trainer, AverageLast, dict[int, torch.Tensor]]:
    torch.manual_seed(0)
    model = Sequential(Linear(3, 4), Dropout(0.3), Linear(4, 1))
    averaging, seen = AverageLast(count), {}

    def evaluate(model: Any) -> dict[str, float]:
        seen[trainer.step] = model.state_dict()["0.weight"].clone()
        return {"loss": 0.0}

    trainer = Trainer(
        model,
        MSELoss(),
        AdamW(model.parameters(), lr=0.05),
        folder=folder,
        evaluate=evaluate,
        evaluate_every=2,
        callbacks=[averaging, *callbacks],
        progress=False,
    )
    return trainer, averaging, seen


def test_the_last_evaluations_of_a_run(tmp_path: Path) -> None:
    trainer, averaging, seen = run(tmp_path, 3, KeepEvery(2, at_most=3))
    trainer.fit(Lines(), 10)
    assert averaging.steps == [6, 8, 10]
    mean = averaging.mean()
    assert torch.equal(mean["0.weight"], (sum(seen[step].double() for step in (6, 8, 10)) / 3).float())
    assert not torch.equal(mean["0.weight"], seen[10])
    from_files = average_weights(sorted(tmp_path.glob("step-*.safetensors")))
    assert mean.keys() == from_files.keys() == trainer.model.state_dict().keys()
    for name, tensor in mean.items():
        assert torch.equal(tensor, from_files[name])
    trainer.model.load_state_dict(mean)
    with no_record():
        assert torch.equal(trainer.model.state_dict()["0.weight"], mean["0.weight"])


def test_a_short_run_has_fewer(tmp_path: Path) -> None:
    trainer, averaging, seen = run(tmp_path, 5)
    trainer.fit(Lines(), 3)
    assert averaging.steps == [2, 3]  # there is always an evaluation at the end
    assert torch.equal(averaging.mean()["0.weight"], ((seen[2].double() + seen[3].double()) / 2).float())


@pytest.mark.parametrize("killed_after", [1, 5, 6, 9])
def test_a_run_that_was_killed_has_the_mean_of_an_unbroken_one(tmp_path: Path, killed_after: int) -> None:
    trainer, unbroken, _ = run(tmp_path / "whole", 3)
    trainer.fit(Lines(), 10)
    broken, _, _ = run(tmp_path / "broken", 3, Killed(killed_after))
    with pytest.raises(MemoryError):
        broken.fit(Lines(), 10)
    torch.manual_seed(99)
    again, averaging, _ = run(tmp_path / "broken", 3)
    again.resume()
    again.fit(Lines(), 10)
    assert averaging.steps == unbroken.steps == [6, 8, 10]
    expected = unbroken.mean()
    for name, tensor in averaging.mean().items():
        assert torch.equal(tensor, expected[name])
    fewer_trainer, fewer, _ = run(tmp_path / "broken", 2)  # of a run that has ended the mean can be taken again
    fewer_trainer.resume()
    assert fewer.steps == [8, 10]


def test_a_mean_leaves_what_it_was_taken_of() -> None:
    averaging, model = AverageLast(3), Linear(2, 2).double()
    for step in range(3):
        averaging.on_evaluate(SimpleNamespace(model=model), {"step": step})
        with torch.no_grad():
            model.weight.add_(1)
    first = averaging.mean()
    for name, tensor in averaging.mean().items():
        assert torch.equal(tensor, first[name])


def test_tied_weights_are_copied_once() -> None:
    averaging, model = AverageLast(2), Tied(0)

    averaging.on_evaluate(SimpleNamespace(model=model), {"step": 1})
    (weights,) = averaging.state_dict()["weights"]
    assert weights["tokens.weight"] is weights["out.weight"]
    before = weights["out.weight"].clone()
    with torch.no_grad():
        model.out.weight.zero_()
    assert torch.equal(averaging.mean()["tokens.weight"], before)


def bowl_variance(rate: float, curvature: float, noise: float) -> float:
    return rate * noise**2 / (curvature * (2 - rate * curvature))


def mean_variance(variance: float, count: int, correlation: float) -> float:
    together = sum((1 - j / count) * correlation**j for j in range(1, count))
    return variance / count * (1 + 2 * together)


def test_worked_example() -> None:
    """docs/averaging.md"""
    first, second = torch.tensor([[1.0, 2], [0, 4]]), torch.tensor([[3.0, 2], [1, -4]])
    best = torch.tensor([[2.0, 2], [1, 0]])
    mean = (first + second) / 2
    assert torch.equal(mean, torch.tensor([[2, 2], [0.5, 0]]))
    losses = [float((weights - best).square().sum() / 2) for weights in (first, second, mean)]
    assert losses == [9, 8.5, 0.125]
    assert (losses[0] + losses[1]) / 2 == 8.75 == 0.125 + 8.625
    assert sum(float((weights - mean).square().sum()) for weights in (first, second)) / 4 == 8.625

    variance = bowl_variance(0.5, 1.0, 1.0)
    assert [variance, variance / 2] == pytest.approx([0.3333, 0.1667], abs=5e-5)
    assert pytest.approx(variance, rel=1e-12) == 0.5 / 1.5
    assert sum((1 - j / 5) * 0.5**j for j in range(1, 5)) == pytest.approx(0.6125, abs=1e-12)
    near, far = mean_variance(variance, 5, 0.5), mean_variance(variance, 5, 0.5**10)
    assert [near, near / 2, far, far / 2] == pytest.approx([0.1483, 0.0742, 0.0668, 0.0334], abs=5e-5)
    assert pytest.approx(0.00098, abs=5e-6) == 0.5**10


def test_the_mean_of_many_runs() -> None:
    generator = torch.Generator().manual_seed(0)
    distance = torch.zeros(100_000)
    steps = []
    for _ in range(60):
        distance = 0.5 * distance - 0.5 * torch.randn(len(distance), generator=generator)
        steps.append(distance)
    variance = bowl_variance(0.5, 1.0, 1.0)
    assert float(distance.square().mean()) == pytest.approx(variance, rel=0.02)
    for apart in (1, 10):
        mean = torch.stack(steps[::-1][: 5 * apart : apart]).mean(0)
        assert float(mean.square().mean()) == pytest.approx(mean_variance(variance, 5, 0.5**apart), rel=0.02)
