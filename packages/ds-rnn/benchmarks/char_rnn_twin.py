"""The recipe char-rnn beside the same training by torch.nn and torch.optim, both in float64 from the same weights."""

import argparse
import sys
import tempfile
from pathlib import Path

from ds_rnn.language.recipe import CharRNNOptions, CharRNNRun

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from language_twin import LanguageModelTwin, twin_steps


def compare(options: CharRNNOptions, every: int) -> None:
    run = CharRNNRun(options)
    run.prepare()
    twin = LanguageModelTwin(run.model).to(run.device)
    print(f"{run.describe()}; {run.steps} steps of {options.batch_size} x {options.window} tokens", flush=True)
    ours = run.trainer.fit(run.batches, run.steps).training
    print(f"{'step':>6}{'ours':>20}{'torch':>20}{'relative':>12}{'norm before clipping':>24}")
    largest = 0.0
    for record, (loss, norm) in zip(ours, twin_steps(twin, run), strict=True):
        relative = max(abs(record["loss"] - loss) / loss, abs(record.get("gradient_norm", norm) - norm) / norm)
        largest = max(largest, relative)
        step = record["step"]
        if step == 1 or step % every == 0 or step == run.steps:
            print(f"{step:6}{record['loss']:20.14f}{loss:20.14f}{relative:12.1e}{norm:24.4f}", flush=True)
    print(f"largest relative difference of a loss or a gradient norm: {largest:.1e}")
    last = dict(twin.named_parameters())
    furthest = max(
        float((tensor - last[name]).detach().abs().max() / last[name].detach().abs().max())
        for name, tensor in run.model.named_parameters()
    )
    print(f"largest difference of a weight at the end, relative to the largest weight of its tensor: {furthest:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50, help="optimizer steps; 200 take some minutes")
    parser.add_argument("--cell", default="lstm", choices=["lstm", "gru", "rnn"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=10, help="steps between the lines that are printed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(
            CharRNNOptions(
                out=Path(name) / "run",
                steps=given.steps,
                cell=given.cell,
                seed=given.seed,
                dtype="float64",
                device="cpu",
                evaluate_every=given.steps,
                evaluate_tokens=2,
                gradient_norms_every=0,
            ),
            given.every,
        )
