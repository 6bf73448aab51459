"""Early stopping: when it stops, what it gives back, and its state."""

import math

import pytest
import torch
from ds_core import EarlyStopping


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


def test_what_is_not_a_number_is_never_the_best():
    assert stopped_after(EarlyStopping(patience=2), [math.nan, 5.0, 6.0, 4.0, 5.0, 5.0]) == 5
    assert stopped_after(EarlyStopping(patience=1), [math.nan]) == 0
    assert stopped_after(EarlyStopping(patience=2), [math.inf, 5.0, math.inf]) is None


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
    with pytest.raises(ValueError, match="EarlyStopping: given minimum_change=nan, expected at least 0"):
        EarlyStopping(minimum_change=math.nan)
    with pytest.raises(ValueError, match="EarlyStopping: evaluate gave loss, expected accuracy"):
        EarlyStopping("accuracy").on_evaluate(Watched(), {"loss": 1.0})


def script(*losses):
    """An `evaluate` that returns these one after the other, and the weights it saw."""
    left, seen = list(losses), []

    def evaluate(model):
        seen.append(torch.cat([tensor.detach().reshape(-1).clone() for tensor in model.parameters()]))
        return {"loss": left.pop(0)}

    return evaluate, seen


def test_the_best_weights_come_back(small, tmp_path):
    evaluate, seen = script(3.0, 1.0, 2.0, 2.0)
    stopping = EarlyStopping(patience=2, restore_best=True)
    trainer = small.make(tmp_path, evaluate=evaluate, evaluate_every=2, callbacks=[stopping])
    trainer.fit(small.Points(), 100)
    assert trainer.step == 8
    assert not torch.equal(seen[1], seen[3])
    torch.testing.assert_close(small.weights(trainer), seen[1], rtol=0, atol=0)
    assert trainer.stopped.endswith("better than 1 for 2 evaluations; the weights of step 4 are back")
    again = small.make(tmp_path, callbacks=[EarlyStopping(restore_best=True)])
    again.resume()
    torch.testing.assert_close(small.weights(again), seen[1], rtol=0, atol=0)


def test_without_restoring_the_last_weights_stay(small):
    evaluate, seen = script(1.0, 2.0)
    trainer = small.make(evaluate=evaluate, evaluate_every=2, callbacks=[EarlyStopping(patience=1)])
    trainer.fit(small.Points(), 100)
    torch.testing.assert_close(small.weights(trainer), seen[1], rtol=0, atol=0)


def test_a_resumed_run_still_knows_the_best_weights(small, tmp_path):
    evaluate, seen = script(1.0, 2.0)
    options = {"evaluate": evaluate, "evaluate_every": 2}
    small.make(tmp_path, callbacks=[EarlyStopping(patience=2, restore_best=True)], **options).fit(small.Points(), 4)
    evaluate, _ = script(2.0)
    options = {"evaluate": evaluate, "evaluate_every": 2}
    trainer = small.make(tmp_path, callbacks=[EarlyStopping(patience=2, restore_best=True)], **options)
    trainer.resume()
    trainer.fit(small.Points(), 100)
    assert trainer.step == 6
    torch.testing.assert_close(small.weights(trainer), seen[0], rtol=0, atol=0)
