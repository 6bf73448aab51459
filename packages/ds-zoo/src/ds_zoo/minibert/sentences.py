"""Documents of sentences to learn from: Python's own docstrings, or a text of the user's."""

import ast
import hashlib
import re
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from ds_core import UserError
from ds_core.text.text_data import read_text

Document = list[str]  # sentences that follow each other

# Directories of the library that hold no ordinary source, as in ds_core.text.text_data
_LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"})
_END_OF_SENTENCE = re.compile(r"(?<=[.!?:])\s+(?=[\"'`(A-Z0-9])")
_FEWEST_WORDS = 3
_TOGETHER = 10  # sentences of a document, where blank lines divide none


def library_documents() -> list[Document]:
    """The docstrings of Python's standard library, each a document: prose that every Python brings along.

    Each is there once, and each module's stand together. Modules come in the order of a hash of their names, which is
    the same on every machine and mixes packages, so that any stretch looks like any other.

    Raises:
        UserError: this Python comes without the source of its library.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    seen: set[str] = set()
    documents = []
    for path in sorted(library.rglob("*.py"), key=lambda path: _shuffled(path.relative_to(library).as_posix())):
        if not _LEFT_OUT.isdisjoint(path.relative_to(library).parts):
            continue
        for docstring in _docstrings(path):
            if docstring not in seen:
                seen.add(docstring)
                documents.append(sentences_of(docstring))
    documents = [document for document in documents if document]
    if not documents:
        raise UserError("this Python comes without the source of its standard library: give a text with --text FILE")
    return documents


def text_documents(path: str | Path) -> list[Document]:
    """The paragraphs of a UTF-8 text, which blank lines divide; each is a document.

    Where no blank line divides it, the end of a line ends a sentence as well, and so many sentences are a document.

    Raises:
        UserError: the text cannot be read, is empty, is not UTF-8, or has no sentence.
    """
    text = read_text(path)
    documents = [sentences_of(part) for part in re.split(r"\n\s*\n", text)]
    documents = [document for document in documents if document]
    if len(documents) == 1:
        sentences = [sentence for line in text.splitlines() for sentence in sentences_of(line)]
        documents = [sentences[first : first + _TOGETHER] for first in range(0, len(sentences), _TOGETHER)] or documents
    if not documents:
        raise UserError(f"the text {path} has no sentence of {_FEWEST_WORDS} words or more")
    return documents


def sentences_of(text: str) -> Document:
    """The sentences of a text, line breaks in them as spaces; those of fewer than three words are left out.

    A sentence ends at a full stop, an exclamation or question mark or a colon before a capital, a digit or a quote, and
    at a blank line.
    """
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        words = " ".join(paragraph.split())
        found += [sentence for sentence in _END_OF_SENTENCE.split(words) if len(sentence.split()) >= _FEWEST_WORDS]
    return found


def digest_of(documents: Iterable[Document]) -> str:
    """The SHA-256 digest of all sentences."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update("\n".join(document).encode("utf-8", "replace") + b"\n\n")
    return digest.hexdigest()


def _docstrings(path: Path) -> list[str]:
    """The docstrings of a module, in the order in which they stand there."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # a template, or a file of another encoding
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    owners = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    owners.sort(key=lambda node: getattr(node, "lineno", 0))
    return [text for text in map(ast.get_docstring, owners) if text]


def _shuffled(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
