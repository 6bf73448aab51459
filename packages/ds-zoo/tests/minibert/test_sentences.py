import pytest
from ds_core import UserError
from ds_zoo.minibert import library_documents, text_documents
from ds_zoo.minibert.sentences import digest_of, sentences_of


def test_sentences():
    text = (
        "Return the value.  If there is none,\nraise KeyError! Why? See e.g. this\none: 42 is it.\n\nToo short\n\na b c"
    )
    assert sentences_of(text) == [
        "Return the value.",
        "If there is none, raise KeyError!",
        "See e.g. this one:",
        "42 is it.",
        "a b c",
    ]
    assert sentences_of("") == []


def test_the_library_has_documents_of_sentences():
    documents = library_documents()
    assert len(documents) > 3000
    assert sum(len(document) > 1 for document in documents) > 1000
    assert len({tuple(document) for document in documents}) > 0.95 * len(documents)
    assert all(document and all(len(sentence.split()) >= 3 for sentence in document) for document in documents)
    assert digest_of(documents) == digest_of(library_documents())
    assert digest_of(documents) != digest_of(documents[1:])


def test_a_text_of_the_users(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("One two three. Four five six.\n\n \nSeven eight nine.")
    assert text_documents(path) == [["One two three.", "Four five six."], ["Seven eight nine."]]
    path.write_text("one\n\ntwo words\n")
    with pytest.raises(UserError, match="has no sentence of 3 words or more"):
        text_documents(path)
    path.write_text("")
    with pytest.raises(UserError, match="is empty"):
        text_documents(path)


def test_lines_where_no_blank_line_divides_the_text(tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(f"line number {n} has words" for n in range(25)))
    documents = text_documents(lines)
    assert [len(document) for document in documents] == [10, 10, 5]
    assert documents[1][0] == "line number 10 has words"
    lines.write_text(" ".join(f"Sentence number {n} has words." for n in range(25)))
    assert [len(document) for document in text_documents(lines)] == [10, 10, 5]
