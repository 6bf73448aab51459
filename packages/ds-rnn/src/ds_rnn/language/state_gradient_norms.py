"""How far back the gradient of a language model reaches, while it trains. Theory: docs/gradient_norms.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ds_core import Callback, TokenCrossEntropy, record
from ds_core.engine.parameter import frozen
from ds_core.plotting import new_figure, save_figure
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_rnn.language.language_model import RNNLanguageModel, State
from ds_rnn.recurrent.gradient_norms import mean_norms

# B = streams of text, T = tokens of a window, L = num_layers, V = vocab_size, K = kinds of states: 1, or 2 for an LSTM

RECORD_KIND = "state_gradient_norms"
LOSSES = {"last": "loss of the last token", "all": "loss of the whole window"}
KINDS = ("h", "c")
_LINES = 8  # of a plot, at most


def state_gradient_norms(
    model: RNNLanguageModel, tokens: Tensor, targets: Tensor, state: State | None = None, *, last_only: bool = False
) -> Tensor:
    """tokens, targets (B, T) -> norms (K, L, T), float64, of the gradient of the state before each token.

    The state before token t is that of all layers; its gradient is what the losses from t on send back through it. At
    t = 0 it is what truncated backpropagation through time throws away. The norm of each layer's part is the mean over
    the streams, and the loss is each stream's own, so that the number of streams changes nothing.

    The window is read token by token, in evaluation mode: nothing is drawn at random, parameters get no gradient, and
    the carried state stays as it is.

    Args:
        state: before the window, as `RNNLanguageModel.advance` takes it; zeros by default.
        last_only: the loss of the last token alone, in place of the mean over the window.
    """
    steps = tokens.shape[1]
    with evaluation_mode(model), frozen(model.parameters()), record():
        found = []
        for t in range(steps):
            logits, state = model.advance(tokens[:, t : t + 1], state)
            found.append(logits)
        counted = found[-1:] if last_only else found
        criterion = TokenCrossEntropy()
        criterion(torch.cat(counted, 1), targets[:, -len(counted) :])
        dlogits = criterion.backward() * len(tokens)  # the mean over the batch divides by B
        given = [None] * (steps - len(counted)) + list(dlogits.chunk(len(counted), 1))
        norms, dstate = [], None
        for dlogits_t in reversed(given):
            dstate = model.advance_backward(dlogits_t, dstate)  # ds_t = dL/ds_t                            (2)
            norms.append(mean_norms(dstate))
    return torch.stack(norms[::-1], -1)


class StateGradientNorms(Callback):
    """After step 1 and every `every` steps, put the `state_gradient_norms` of the next window into the history.

    The records are of the kind "state_gradient_norms". `last_h` and, for an LSTM, `last_c` are those of the last
    token's loss, `all_h` and `all_c` those of the whole window's: for each layer a list, the state before the first
    token first.

    Args:
        batches: what the model is trained on, `TextStreams`.
        every: steps between two records.

    Raises:
        ValueError: `every` is less than 1.
    """

    everywhere = False

    def __init__(self, batches: Any, every: int) -> None:
        if every < 1:
            raise ValueError(f"StateGradientNorms: given every={every}, expected at least 1")
        self.batches, self.every = batches, every

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        if trainer.step != 1 and trainer.step % self.every != 0:
            return
        inputs, targets = self.batches.batch(trainer.step)
        tokens, carry = inputs if isinstance(inputs, tuple) else (inputs, None)
        values: dict[str, Any] = {}
        for loss in LOSSES:
            norms = state_gradient_norms(
                trainer.model, tokens, targets, trainer.model.state_before(carry), last_only=loss == "last"
            )
            values |= {f"{loss}_{kind}": _rounded(layers) for kind, layers in zip(KINDS, norms, strict=False)}
        trainer.history.add(RECORD_KIND, trainer.step, **values)


def _rounded(norms: Tensor) -> list[list[float | None]]:
    """Four digits are enough for a log; JSON knows neither NaN nor infinity."""
    finite = norms.isfinite().tolist()
    return [
        [float(f"{value:.4g}") if known else None for value, known in zip(*layer, strict=True)]
        for layer in zip(norms.tolist(), finite, strict=True)
    ]


def plot_state_gradient_norms(records: Sequence[Mapping[str, Any]], path: str | Path) -> bool:
    """Draw the norms of the last layer against the steps back, a line for each recorded step, into a PNG.

    Args:
        records: of a history. If none is of this kind, nothing is drawn.

    Returns:
        Whether something was drawn.

    Raises:
        MissingPackageError: matplotlib is not installed.
        WriteError: the file cannot be written.
    """
    own = [record for record in records if record["kind"] == RECORD_KIND]
    if not own:
        return False
    if len(own) > _LINES:
        own = [own[round(index * (len(own) - 1) / (_LINES - 1))] for index in range(_LINES)]
    kinds = [kind for kind in KINDS if f"all_{kind}" in own[0]]
    figure = new_figure(9, 1 + 3 * len(kinds))
    grid = figure.subplots(len(kinds), len(LOSSES), squeeze=False, sharex=True, sharey="row")
    for row, kind in zip(grid, kinds, strict=True):
        for axes, (loss, title) in zip(row, LOSSES.items(), strict=True):
            for index, found in enumerate(own):
                share = index / max(1, len(own) - 1)
                style: dict[str, Any] = {"color": (share, 0.3, 1 - share), "label": f"step {found['step']}"}
                back = found[f"{loss}_{kind}"][-1][::-1]
                # what has vanished altogether, or is beyond all numbers, has no place on a log axis
                heights = [value if value else float("nan") for value in back]
                axes.plot(range(1, 1 + len(back)), heights, **style)
            axes.set(yscale="log", title=f"|d{kind}| of the {title}")
            axes.grid(alpha=0.3)
        row[0].set_ylabel("norm, last layer")
    for axes in grid[-1]:
        axes.set_xlabel("tokens back from the end of the window")
    grid[0][0].legend(fontsize="small")
    save_figure(figure, path)
    return True
