"""How the share of true tokens that a decoder is given falls while it learns. Theory: docs/teacher_forcing.md."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ds_core import Callback

from ds_rnn.seq2seq.seq2seq_rnn import Seq2SeqRNN

# i = step, N = steps of the run, e_i = share of true tokens, e_N = end


def linear(step: int, steps: int, end: float) -> float:
    return 1 - (1 - end) * step / steps  # e_i = 1 - c i,  c = (1 - e_N) / N                                (2)


def exponential(step: int, steps: int, end: float) -> float:
    return float(end ** (step / steps))  # e_i = k^i,  k = e_N^(1/N)                                        (3)


def inverse_sigmoid(step: int, steps: int, end: float) -> float:
    k = _inverse_sigmoid_scale(steps, end)
    return k / (k + math.exp(step / k))  # e_i = k / (k + exp(i / k))                                       (4)


def _inverse_sigmoid_scale(steps: int, end: float) -> float:
    """The k of k ln(k (1 - e_N) / e_N) = N, equation (5): the left side is 0 at `low` and grows with k."""
    low = end / (1 - end)
    high = low + steps + 1
    while high * math.log(high / low) < steps:
        high *= 2
    for _ in range(100):
        k = (low + high) / 2
        low_enough = k * math.log(k * (1 - end) / end) < steps
        low, high = (k, high) if low_enough else (low, k)
    return high


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "linear": linear,
    "exponential": exponential,
    "inverse-sigmoid": inverse_sigmoid,
}


class TeacherForcing(Callback):
    """Lets `model.teacher_forcing` fall from 1 to `end` over a run (Bengio et al., "Scheduled Sampling for Sequence
    Prediction with Recurrent Neural Networks", 2015, section 2.4).

        trainer = Trainer(model, ..., callbacks=[TeacherForcing(model, 0.5, steps)])
        trainer.fit(batches, steps)

    The share that a step was taken with is in the history, kind "teacher_forcing".

    Args:
        model: whose decoder it is about.
        end: the share of true tokens at the end of the run, 0 ... 1.
        steps: of the run.
        schedule: "linear"; "exponential", which falls the more slowly the lower it is; or "inverse-sigmoid", which
            stays near 1 at first. The latter two never reach 0.

    Raises:
        ValueError: for an unknown schedule, or an `end` or `steps` that it cannot have.
    """

    def __init__(self, model: Seq2SeqRNN, end: float, steps: int, schedule: str = "linear") -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"TeacherForcing: given schedule={schedule!r}, expected one of {', '.join(SCHEDULES)}")
        if not 0 <= end <= 1 or (schedule != "linear" and end == 0):
            least = "0 ... 1" if schedule == "linear" else f"above 0, which {schedule} never reaches, up to 1"
            raise ValueError(f"TeacherForcing: given end={end}, expected a share of {least}")
        if steps < 1:
            raise ValueError(f"TeacherForcing: given steps={steps}, expected at least 1")
        self.model, self.end, self.steps, self.schedule = model, end, steps, schedule
        self._go_to(0)

    def share(self, step: int) -> float:
        """The share of true tokens in the step after `step` others."""
        return 1.0 if self.end == 1 else SCHEDULES[self.schedule](min(step, self.steps), self.steps, self.end)

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        trainer.history.add("teacher_forcing", trainer.step, share=self.share(self.step))
        self._go_to(trainer.step)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._go_to(int(state["step"]))

    def _go_to(self, step: int) -> None:
        self.step = step
        self.model.teacher_forcing = self.share(step)
