"""What one more token costs Seq2SeqTransformer after a text of some length: with caches, and reading all of it anew.

hatch run bench decoding_cost -- [--lengths 16 64 256 1024] [--plot FILE]

With caches the cost must grow by attention's part alone; without them it grows with the whole text, and torch.nn,
which has no cache, pays that for every token. The source has 32 tokens; batch 1.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from ds_core import no_record
from ds_core.plotting import new_figure, save_figure
from ds_transformers import Seq2SeqConfig, Seq2SeqTransformer
from torch_seq2seq import TorchSeq2Seq

NAMES = ("with caches", "anew, ours", "anew, torch.nn")


def seconds(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(model: Seq2SeqTransformer, twin: TorchSeq2Seq, length: int, repeats: int) -> tuple[float, ...]:
    source = torch.randint(3, model.config.source_vocab, (1, 32))
    text = torch.randint(3, model.config.target_vocab, (1, length))
    with no_record():
        state = model.start(source, 1)
        for token in text[0]:
            model.step(token[None], state)
        # each timed step is one token further, which changes its cost by less than the clock's noise
        cached = seconds(lambda: model.step(text[0, :1], state), repeats)
        ours = seconds(lambda: model(source, text), max(3, repeats // 5))
    with torch.inference_mode():
        theirs = seconds(lambda: twin(source, text), max(3, repeats // 5))
    return cached, ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in [("layers", 3), ("heads", 6), ("width", 384), ("vocab", 256), ("repeats", 30)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lengths", type=int, nargs="*", default=[16, 64, 256, 1024])
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    config = Seq2SeqConfig(*(o.vocab, o.vocab, o.width, o.heads, 4 * o.width, o.layers, o.layers, 0.0), norm_first=True)
    model = Seq2SeqTransformer(config).eval()
    twin = TorchSeq2Seq(config).eval()
    twin.load_state_dict(model.state_dict())
    print(f"{o.layers} + {o.layers} layers, {o.width} wide, {o.threads} thread(s): milliseconds for one more token")
    print(f"{'after':>8}" + "".join(f"{name:>18}" for name in NAMES))
    rows = {}
    for length in o.lengths:
        rows[length] = measure(model, twin, length, o.repeats)
        print(f"{length:>8}" + "".join(f"{1e3 * value:>18.2f}" for value in rows[length]), flush=True)
    if o.plot is not None:
        figure = new_figure()
        axes = figure.subplots()
        for name, values in zip(NAMES, zip(*rows.values(), strict=True), strict=True):
            axes.loglog(list(rows), [1e3 * value for value in values], "o-", label=name)
        axes.set_xlabel("tokens so far")
        axes.set_ylabel("ms for one more")
        axes.legend()
        save_figure(figure, o.plot)


if __name__ == "__main__":
    main()
