"""The tokenizer of a pretrained GPT-2 folder: GPT-2's byte-level BPE, or one that a run of minigpt has left."""

import json
from pathlib import Path
from typing import Any

from ds_core import CheckpointError, UserError
from ds_core.recipes.text_corpus import TOKENIZER_FILE
from ds_core.text.tokenizers import Tokenizer, load_tokenizer


def read_tokenizer(folder: str | Path) -> Tokenizer:
    """tokenizer.json of a folder, as transformers' save_pretrained of a GPT2Tokenizer writes it, or `ds`.

    Raises:
        CheckpointError: it is missing, damaged, or of another kind than byte-level BPE.
        MissingPackageError: the library `tokenizers` is not installed.
    """
    path = Path(folder) / TOKENIZER_FILE
    if not path.exists():
        raise CheckpointError(
            f"no tokenizer: {path} does not exist; transformers' save_pretrained of the model's tokenizer writes it"
        )
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    kind = _foreign_kind(fields)
    if kind is not None:
        raise CheckpointError(f"{path} is of another kind, {kind}: expected byte-level BPE, which GPT-2 has")
    try:
        return load_tokenizer(path)
    except UserError as error:
        raise CheckpointError(str(error)) from error


def check_fits(tokenizer: Tokenizer, vocab_size: int, folder: str | Path) -> None:
    """Refuse a model that knows more or fewer tokens than its tokenizer.

    Raises:
        CheckpointError: it does.
    """
    if tokenizer.vocab_size != vocab_size:
        raise CheckpointError(
            f"{folder}: the model knows {vocab_size} tokens, {TOKENIZER_FILE} {tokenizer.vocab_size}: they do not "
            "belong together"
        )


def _foreign_kind(fields: Any) -> str | None:
    """What another tokenizer of the library `tokenizers` is, or None for a byte-level one and for what `ds` wrote."""
    if not isinstance(fields, dict) or not isinstance(fields.get("model"), dict):
        return None
    kind = fields["model"].get("type", "without a type")
    if kind != "BPE":
        return str(kind)
    return None if "ByteLevel" in json.dumps(fields.get("pre_tokenizer")) else "BPE of characters"
