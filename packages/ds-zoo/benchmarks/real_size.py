"""Models of the published sizes, with random weights: read, trained for a step and used, beside transformers'.

python benchmarks/real_size.py [gpt2 bert vit clip] [--device cpu] [--steps 3] [--threads 2]

transformers writes each model once into a temporary folder. Then ours and theirs read it, each in a process of its own,
take a few training steps with AdamW on the same small batch, and generate or predict. The table has seconds (of steps
the median) and the peak memory: on CPU what the process holds at most beyond what its imports took, on CUDA what the
allocator gave out at most. Losses and results must agree.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

TOKENS = 32  # that a model of texts writes


class Case(NamedTuple):
    """One model, and what it is given."""

    architecture: str  # transformers' class
    ours: str
    config: dict[str, Any]  # what is not the published model's: no dropout, so that both compute the same
    inputs: Callable[[torch.Generator], dict[str, torch.Tensor]]
    labels: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
    task: str


def texts(vocab_size: int, batch: int, length: int) -> Callable[[torch.Generator], dict[str, torch.Tensor]]:
    return lambda draws: {"input_ids": torch.randint(vocab_size, (batch, length), generator=draws)}


def images(batch: int) -> Callable[[torch.Generator], dict[str, torch.Tensor]]:
    return lambda draws: {"pixel_values": torch.randn(batch, 3, 224, 224, generator=draws)}


def captions(draws: torch.Generator) -> dict[str, torch.Tensor]:
    tokens = texts(49000, 4, 77)(draws)["input_ids"]
    tokens[:, -1] = 49407  # the end of each
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **images(4)(draws)}


CASES = {
    "gpt2": Case(
        "GPT2LMHeadModel",
        "MiniGPT",
        {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
        texts(50257, 2, 128),
        lambda inputs: {"labels": inputs["input_ids"]},
        f"{TOKENS} tokens after 128",
    ),
    "bert": Case(
        "BertForMaskedLM",
        "MiniBERT",
        {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        texts(30522, 2, 128),
        lambda inputs: {"labels": torch.where(inputs["input_ids"] % 7 == 0, inputs["input_ids"], -100)},
        "tokens of 2 texts",
    ),
    "vit": Case(
        "ViTForImageClassification",
        "MiniViT",
        {"num_labels": 1000},
        images(4),
        lambda inputs: {"labels": torch.arange(4)},
        "classes of 4 images",
    ),
    "clip": Case("CLIPModel", "MiniCLIP", {}, captions, lambda inputs: {}, "4 texts for 4 images"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="MODEL", help=f"of {', '.join(CASES)} (not given: all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--side", choices=["write", "ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    o = parser.parse_args()
    if any(name not in CASES for name in o.cases):
        parser.error(f"expected models of {', '.join(CASES)}, got {' '.join(o.cases)}")
    if o.side is not None:
        torch.set_num_threads(o.threads)
        write(o.cases[0], o.folder) if o.side == "write" else print(json.dumps(measure(o)))
        return
    print(f"{'model':6} {'':6} {'read':>7} {'step':>7} {'use':>7} {'peak':>9}  (seconds, MB; {o.threads} threads)")
    for name in o.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            child(o, name, "write", folder)
            found = {side: json.loads(child(o, name, side, folder).splitlines()[-1]) for side in ("ours", "theirs")}
        report(name, found["ours"], found["theirs"])


def child(o: argparse.Namespace, name: str, side: str, folder: str) -> str:
    """What a process of this file prints."""
    words = [sys.executable, __file__, name, "--side", side, "--folder", folder]
    words += ["--device", o.device, "--steps", str(o.steps), "--threads", str(o.threads)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def report(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for label, row in (("ours", ours), ("theirs", theirs)):
        figures = f"{row['read']:7.2f} {row['step']:7.2f} {row['use']:7.2f} {row['peak']:9,.0f}"
        print(f"{name:6} {label:6} {figures}", flush=True)
    ratios = [ours[part] / theirs[part] for part in ("read", "step", "use", "peak")]
    print(f"{name:6} ratio  {ratios[0]:7.2f} {ratios[1]:7.2f} {ratios[2]:7.2f} {ratios[3]:9.2f}")
    agreeing = sum(a == b for a, b in zip(ours["result"], theirs["result"], strict=True)) / len(theirs["result"])
    print(f"{name:6} use: {CASES[name].task}, {agreeing:.0%} the same; losses {ours['losses']} and {theirs['losses']}")
    for a, b in zip(ours["losses"], theirs["losses"], strict=True):
        if abs(a - b) > 1e-3 * abs(b):
            raise SystemExit(f"{name}: the losses differ, {a} and {b}")


def write(name: str, folder: Path) -> None:
    """A model of random weights as transformers saves it."""
    import transformers

    torch.manual_seed(0)
    architecture = getattr(transformers, CASES[name].architecture)
    architecture(architecture.config_class(**CASES[name].config)).save_pretrained(folder)


def measure(o: argparse.Namespace) -> dict[str, Any]:
    """One side: seconds to read, of a step and of its use, the peak memory in MB, losses, and what it said."""
    case = CASES[o.cases[0]]
    ours = OurGPT2 if case.ours == "MiniGPT" else Ours
    side: Any = ours(case.ours) if o.side == "ours" else Theirs(case)
    inputs = case.inputs(torch.Generator().manual_seed(1))
    labels = {key: tensor.to(o.device) for key, tensor in case.labels(inputs).items()}
    inputs = {key: tensor.to(o.device) for key, tensor in inputs.items()}
    before = peak(o.device)
    read = timed(lambda: side.read(o.folder, o.device))[0]
    steps = [timed(lambda: side.step(inputs, labels)) for _ in range(o.steps)]
    highest = peak(o.device)
    side.forget()
    use, result = timed(lambda: side.use(inputs))
    return {
        "read": read,
        "step": statistics.median(seconds for seconds, _ in steps),
        "use": use,
        "peak": highest - before,
        "losses": [round(loss, 5) for _, loss in steps],
        "result": result,
    }


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def peak(device: str) -> float:
    """The most memory so far, in MB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Ours:
    """A model of ours; the imports come first, so that they are not measured."""

    def __init__(self, name: str) -> None:
        import ds_zoo
        from ds_core import AdamW, record

        self.record, self.optimizer_class = record, AdamW
        self.kind = getattr(ds_zoo, name)

    def read(self, folder: Path, device: str) -> None:
        self.model = self.kind.from_pretrained(folder, device=device).train()
        self.optimizer = self.optimizer_class(self.model.parameters(), lr=1e-5)

    def step(self, inputs: dict[str, torch.Tensor], labels: dict[str, torch.Tensor]) -> float:
        criterion = self.model.criterion()
        with self.record():
            loss = criterion(self.model(**inputs), **labels)
            self.model.backward(criterion.backward(), input_gradient=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)

    def forget(self) -> None:
        del self.optimizer
        self.model.eval()

    def use(self, inputs: dict[str, torch.Tensor]) -> list[int]:
        with torch.no_grad():
            return likeliest(self.model(**inputs))


class OurGPT2(Ours):
    def use(self, inputs: dict[str, torch.Tensor]) -> list[int]:
        from ds_zoo import generate

        return list(generate(self.model, inputs["input_ids"][0], TOKENS, temperature=0.0))


class Theirs:
    """transformers' model of a case, with autograd and torch.optim."""

    def __init__(self, case: Case) -> None:
        import transformers

        self.kind = getattr(transformers, case.architecture)
        self.generates = case.architecture == "GPT2LMHeadModel"
        self.more = {"return_loss": True} if case.architecture == "CLIPModel" else {}

    def read(self, folder: Path, device: str) -> None:
        self.model = self.kind.from_pretrained(folder).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)

    def step(self, inputs: dict[str, torch.Tensor], labels: dict[str, torch.Tensor]) -> float:
        loss = self.model(**inputs, **labels, **self.more).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss)

    def forget(self) -> None:
        del self.optimizer
        self.model.eval()

    def use(self, inputs: dict[str, torch.Tensor]) -> list[int]:
        with torch.no_grad():
            if not self.generates:
                return likeliest(self.model(**inputs))
            prompt = inputs["input_ids"][:1]
            options = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False, "pad_token_id": 0}
            written = self.model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
            return written[0, prompt.shape[1] :].tolist()


def likeliest(output: Any) -> list[int]:
    """Of each row of logits the largest one's number."""
    logits = output.logits_per_image if hasattr(output, "logits_per_image") else output.logits
    return logits.argmax(-1).flatten().tolist()


if __name__ == "__main__":
    main()
