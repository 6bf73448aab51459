"""The run of a recipe that learns a text, and `ds generate` for it. How to write a recipe: docs/recipes.md."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from ds_core.atomic_files import write_atomically
from ds_core.engine.module import Module
from ds_core.errors import UserError
from ds_core.options import option
from ds_core.recipes.run import Run
from ds_core.recipes.text_corpus import TOKENIZER_FILE, Corpus, TextOptions
from ds_core.text.tokenizers import Tokenizer
from ds_core.training.callbacks import Callback
from ds_core.training.run_options import LARGEST_SEED, MOST_THREADS

_SAMPLE_TOKENS = 200

OptionsT = TypeVar("OptionsT", bound=TextOptions)
ModelT = TypeVar("ModelT", bound=Module)


class TextRun(Run[OptionsT, Corpus, ModelT], Generic[OptionsT, ModelT]):
    """A recipe that learns a text writes, beside the methods of a `Run`, `continued` and `whole_loss`.

    It shows what the model writes before and after training, and between if it is given `Samples`.
    """

    files: ClassVar[tuple[str, ...]] = (TOKENIZER_FILE,)

    @abstractmethod
    def continued(self, prompt: Tensor, count: int) -> Iterator[int]:
        """`count` tokens that the model writes after `prompt` (T,), the same each time for the same weights."""

    @abstractmethod
    def whole_loss(self) -> float:
        """The mean loss over the whole validation text, each token but the first predicted once."""

    def write_folder(self) -> None:
        write_atomically(self.folder / TOKENIZER_FILE, self.data.tokenizer.to_json())

    def before_training(self) -> None:
        print(f"before training, it writes:\n{self.sample()}\n", flush=True)

    def report(self) -> Mapping[str, Any]:
        loss, tokens = self.whole_loss(), len(self.data.validation) - 1
        print(f"after training, it writes:\n{self.sample()}\n")
        print(f"loss over the whole validation split ({tokens:,} tokens): {loss:.4f} nats a token")
        return {"validation": {"loss": loss, "tokens": tokens}}

    def next_commands(self) -> list[str]:
        prompt = " --prompt 'def '" if self.options.text is None else ""
        return [
            f"generate {self.typed_folder}{prompt}",
            f"train {self.name} --out {self.typed_folder} --resume --steps {2 * self.trainer.step}",
            f"train {self.name} --text FILE --out runs/mine",
        ]

    def data_in_words(self) -> str:
        """What `describe` says of the text."""
        data = self.data
        return (
            f"learns {data.source}: {len(data.training):,} tokens to train on, {len(data.validation):,} to validate "
            f"on, {data.tokenizer.vocab_size} different ones"
        )

    def sample(self) -> str:
        """What the model writes after the first token of the validation text."""
        return self.data.tokenizer.decode(self.continued(self.data.validation[:1], _SAMPLE_TOKENS))


class Samples(Callback):
    """Shows what the model writes, every so many steps."""

    everywhere = False

    def __init__(self, run: TextRun[Any, Any], every: int) -> None:
        self.run, self.every = run, every

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        if trainer.step % self.every == 0:
            trainer.write(f"after {trainer.step} steps, it writes:\n{self.run.sample()}\n")


@dataclass
class TextGenerateOptions:
    """Options of `ds generate FOLDER` for a run that has learned a text."""

    prompt: str | None = option(None, "text to continue (not given: a new line)")
    tokens: int = option(500, "how many tokens to write", minimum=0)
    temperature: float = option(
        0.8, "below 1: likelier tokens, above 1: more surprising ones; 0: always the likeliest", minimum=0
    )
    top_k: int | None = option(None, "draw among the k likeliest tokens only", minimum=1)
    top_p: float | None = option(
        None, "draw among the likeliest tokens of this total probability", minimum=0, maximum=1
    )
    seed: int | None = option(None, "of the draws (not given: another text each time)", minimum=0, maximum=LARGEST_SEED)
    stream: bool = option(True, "print each token as it comes, or the text when it is whole")
    weights: str = option("best", "of the best evaluation, or of the last checkpoint", choices=["best", "last"])
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto is cuda if there is one")
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1, maximum=MOST_THREADS)

    def __post_init__(self) -> None:
        if self.prompt == "":
            raise UserError("--prompt is empty: give at least one character to continue")
        if self.top_p == 0:
            raise UserError("--top-p: given 0, expected more than 0")


def prompt_of(options: TextGenerateOptions, tokenizer: Tokenizer) -> tuple[str, Tensor]:
    """The text to continue and its tokens: as given, else a new line, or the first character there is.

    Raises:
        UserError: it has a character that the tokenizer does not know.
    """
    prompt = options.prompt
    if prompt is None:
        try:
            prompt = tokenizer.decode(tokenizer.encode("\n"))
        except UserError:
            prompt = tokenizer.decode([0])
    return prompt, tokenizer.encode(prompt, "--prompt")


def print_text(prompt: str, tokens: Iterator[int], tokenizer: Tokenizer, stream: bool) -> None:
    """Print the prompt and what follows, each token as it comes or all of it at the end."""
    if not stream:
        print(prompt + tokenizer.decode(tokens))
        return
    print(prompt, end="", flush=True)
    decoder = tokenizer.streaming_decoder()
    for token in tokens:
        print(decoder.push(token), end="", flush=True)
    print(decoder.finish())
