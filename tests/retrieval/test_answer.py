"""Answers quote byte ranges of documents; sentences, rows and items are whole; headings answer nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.retrieval import answer as answer_module
from empu.retrieval.answer import answer_question
from empu.retrieval.collection import Collection, Collections
from empu.retrieval.ingest import add_paths
from empu.retrieval.sentences import split_sentences
from tests.retrieval.documents import HANDBOOK
from tests.retrieval.test_collection import LetterEncoder, Silent

TEXT = """\
Fees

The fee is 12 SGD, see Dr. Tan, or e.g. the
office. It is due at noon. "Late payers" pay more! Ongkosnya Rp 5.000 – ya.

- first item
  goes on
- second item

| plan | fee |
|---|---|
| Tetes | none |
| Muara | 12 |

1. one
2. two
"""


def test_sentences_are_whole_and_their_bytes_exact() -> None:
    sentences = list(split_sentences(TEXT))
    assert [sentence.text for sentence in sentences] == [
        "Fees",
        "The fee is 12 SGD, see Dr. Tan, or e.g. the\noffice.",
        "It is due at noon.",
        '"Late payers" pay more!',
        "Ongkosnya Rp 5.000 – ya.",
        "- first item\n  goes on",
        "- second item",
        "| plan | fee |",
        "| Tetes | none |",
        "| Muara | 12 |",
        "1. one",
        "2. two",
    ]
    data = TEXT.encode()
    for sentence in sentences:
        assert data[sentence.start : sentence.end].decode() == sentence.text
    assert [sentence.header for sentence in sentences[7:11]] == [None, "| plan | fee |", "| plan | fee |", None]
    assert [sentence.text for sentence in sentences if sentence.looks_like_title] == ["Fees"]


def test_long_sentences_are_cut_without_losing_a_character() -> None:
    text = "Wörter, und mehr; " * 200
    pieces = list(split_sentences(text))
    assert max(len(piece.text) for piece in pieces) <= 600
    joined = "".join(piece.text for piece in pieces)
    assert joined.replace(" ", "") == text.replace(" ", "")


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    (tmp_path / "returns.md").write_text(HANDBOOK)
    opened = Collections(tmp_path).open("c", create=True)
    add_paths(opened, [tmp_path / "returns.md"], encoder=LetterEncoder(), licence="x", added_by="x", progress=Silent())
    return opened


def test_every_quotation_is_in_the_document(collection: Collection) -> None:
    for question in ("when is the refund paid", "is a damaged device exchanged", "what is the fee of Muara"):
        answer = answer_question(collection, question, encoder=LetterEncoder())
        assert answer.quotes
        for quote in answer.quotes:
            text = collection.text(quote.passage.document.id)
            assert text[quote.start : quote.end].decode() == quote.text


def test_without_an_encoder_words_decide_and_confidence_is_unknown(collection: Collection) -> None:
    answer = answer_question(collection, "working days refund paid", encoder=None)
    assert "The refund is paid within **five** working days." in [quote.text for quote in answer.quotes]
    assert (answer.confidence, answer.is_refused) == (None, False)


def test_an_improbable_answer_is_refused(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_module, "CALIBRATIONS", {"letters-1": (10.0, -100.0)})
    answer = answer_question(collection, "capital of France", encoder=LetterEncoder())
    assert answer.is_refused
    assert answer.confidence is not None
    assert answer.confidence < 0.01
    monkeypatch.setattr(answer_module, "CALIBRATIONS", {"letters-1": (10.0, 0.0)})
    assert not answer_question(collection, "capital of France", encoder=LetterEncoder()).is_refused


def test_an_empty_collection_refuses(tmp_path: Path) -> None:
    with Collections(tmp_path).open("empty", create=True) as empty:
        answer = answer_question(empty, "anything", encoder=LetterEncoder())
    assert (answer.quotes, answer.is_refused, answer.hits) == ((), True, ())
