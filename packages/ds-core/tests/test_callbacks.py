"""Early stopping."""

import math

import pytest
from ds_core.training.callbacks import EarlyStopping


class Watched:
    reason = None

    def stop(self, reason):
        self.reason = reason


def stopped_after(callback, values, name="loss"):
    trainer = Watched()
    for index, value in enumerate(values):
        callback.on_evaluate(trainer, {name: value})
        if trainer.reason is not None:
            return index
    return None


def test_stops_after_patience_without_improvement():
    assert stopped_after(EarlyStopping(patience=2), [3.0, 2.0, 2.5, 1.9, 1.9, 2.0, 0.0]) == 5
    assert stopped_after(EarlyStopping(patience=2), [3.0, 2.0, 1.0, 0.5]) is None
    assert stopped_after(EarlyStopping(patience=1), [3.0, math.nan]) == 1


def test_largest_and_minimum_change():
    callback = EarlyStopping("accuracy", patience=1, minimum_change=0.1, largest=True)
    assert stopped_after(callback, [0.5, 0.7, 0.75], "accuracy") == 2


def test_state_goes_on():
    first = EarlyStopping(patience=3)
    stopped_after(first, [1.0, 2.0, 2.0])
    second = EarlyStopping(patience=3)
    second.load_state_dict(first.state_dict())
    assert stopped_after(second, [2.0]) == 0


def test_mistakes():
    with pytest.raises(ValueError, match="given patience 0, expected at least 1"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="evaluate gave loss, expected accuracy"):
        EarlyStopping("accuracy").on_evaluate(Watched(), {"loss": 1.0})
