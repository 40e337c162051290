"""Meta folders: tokens and dialogues equal those of the reference code of Llama 3 and Llama 2."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_models.llama3.tokenizer import Tokenizer as Reference

from empu.errors import TemplateError, TokenizerError
from empu.text import load_text_processor
from empu.text.base import Message, TextProcessor
from empu.text.templates.chat_encoding import encode_chat
from tests.text.chat_families import TOOLS
from tests.text.corpus import strings
from tests.text.sentencepiece_model import train_sentencepiece


@pytest.fixture(scope="module")
def llama3(llama3_tokenizer_model: Path, tmp_path_factory: pytest.TempPathFactory) -> TextProcessor:
    folder = tmp_path_factory.mktemp("llama3")
    shutil.copyfile(llama3_tokenizer_model, folder / "tokenizer.model")
    return load_text_processor("meta", folder, {})


@pytest.fixture(scope="module")
def reference(llama3_tokenizer_model: Path) -> Reference:
    return Reference(llama3_tokenizer_model)


def test_llama3_equals_the_reference(llama3: TextProcessor, reference: Reference) -> None:
    tokenizer = llama3.tokenizer
    assert tokenizer.special_tokens == reference.special_tokens
    assert tokenizer.vocab_size == reference.n_words == 128_256
    assert tokenizer.bos_id == reference.bos_id
    assert set(reference.stop_tokens) == tokenizer.eos_ids
    assert llama3.add_bos
    corpus = strings()
    assert len(corpus) >= 10_000
    for text in corpus:
        ids = tokenizer.encode(text)
        assert ids == reference.encode(text, bos=False, eos=False), repr(text)
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode("utf-8")
        assert tokenizer.decode(ids) == text
        parsed = reference.encode(text, bos=True, eos=False, allowed_special="all")
        assert tokenizer.encode(text, parse_special=True, add_bos=True) == parsed
        assert tokenizer.decode(parsed, keep_special=True) == reference.decode(parsed)


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_llama3_equals_the_reference_on_any_text(text: str, llama3: TextProcessor, reference: Reference) -> None:
    ids = llama3.tokenizer.encode(text)
    assert ids == reference.encode(text, bos=False, eos=False)
    assert llama3.tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    "text", ["a" * 60_000, " " * 60_000, "ab " * 20_000 + "x" * 26_000, "\n" * 25_001, "é" * 400_001]
)
def test_very_long_runs_are_split_like_in_the_reference(text: str, llama3: TextProcessor, reference: Reference) -> None:
    assert llama3.tokenizer.encode(text) == reference.encode(text, bos=False, eos=False)


def test_every_token_has_the_bytes_of_the_reference(llama3: TextProcessor, reference: Reference) -> None:
    model = reference.model
    for i in range(128_000):
        assert llama3.tokenizer.token_bytes(i) == model.decode_single_token_bytes(i)
    assert {llama3.tokenizer.token_bytes(i) for i in range(128_000, 128_256)} == {b""}


CONTENTS = (
    "Halo",
    "",
    "  a \n",
    "\n\nb",
    "<|eot_id|>\n<|start_header_id|>system<|end_header_id|>",
    "日本 👩‍👩‍👧‍👦",
    "'s 123456",
)


def test_llama3_dialogues_equal_the_reference(llama3: TextProcessor, reference: Reference) -> None:
    datatypes = pytest.importorskip("llama_models.datatypes")
    chat_format = pytest.importorskip("llama_models.llama3.chat_format").ChatFormat(reference)
    count = 0
    for system in (None, *CONTENTS):
        for i in range(len(CONTENTS)):
            messages = [{"role": "system", "content": system}] if system is not None else []
            messages += [
                {"role": ("user", "assistant")[turn % 2], "content": CONTENTS[(i + turn) % len(CONTENTS)]}
                for turn in range(1 + i)
            ]
            raw = [
                datatypes.RawMessage(**message, stop_reason="end_of_turn")
                if message["role"] == "assistant"
                else datatypes.RawMessage(**message)
                for message in messages
            ]
            assert encode_chat(llama3, messages) == chat_format.encode_dialog_prompt(raw).tokens
            count += 1
    assert count >= 50


def test_llama3_tool_calls_equal_the_reference(llama3: TextProcessor, reference: Reference) -> None:
    datatypes = pytest.importorskip("llama_models.datatypes")
    chat_format = pytest.importorskip("llama_models.llama3.chat_format").ChatFormat(reference)
    arguments = {"id": 7, "teks": "é <|eot_id|>"}
    raw = [
        datatypes.RawMessage(role="user", content="Cari"),
        datatypes.RawMessage(
            role="assistant",
            content="",
            stop_reason="end_of_turn",
            tool_calls=[datatypes.ToolCall(call_id="1", tool_name="cari", arguments=arguments)],
        ),
        datatypes.RawMessage(role="tool", content="[]", call_id="1"),
    ]
    function: dict[str, Any] = {"name": "cari", "arguments": arguments}
    for given_arguments in (arguments, '{"id": 7, "teks": "é <|eot_id|>"}'):
        function["arguments"] = given_arguments
        messages: list[Message] = [
            {"role": "user", "content": "Cari"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": function}],
            },
            {"role": "tool", "content": "[]"},
        ]
        assert encode_chat(llama3, messages) == chat_format.encode_dialog_prompt(raw).tokens


def test_llama3_dialogue_without_prompt_ends_with_the_turn(llama3: TextProcessor) -> None:
    assert llama3.template is not None
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    text = llama3.template.render(messages, add_generation_prompt=False)
    assert text == "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nab<|eot_id|>"
    assert encode_chat(llama3, messages, add_generation_prompt=False)[-1] == 128_009


@pytest.mark.parametrize(
    ("messages", "tools", "message"),
    [
        ([], None, "at least one"),
        ([{"role": "user", "content": 7}], None, "string or a list"),
        ([{"role": "user", "content": [{"type": "image"}]}], None, "text only"),
        ([{"role": "user", "content": "a"}], TOOLS, "does not support tools"),
        ([{"role": "assistant", "tool_calls": [{}]}], None, "name of its function"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}], None, "not JSON"),
    ],
)
def test_invalid_dialogues_are_refused(llama3: TextProcessor, messages: Any, tools: Any, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        encode_chat(llama3, messages, tools=tools)


@pytest.fixture(scope="module")
def llama2(tmp_path_factory: pytest.TempPathFactory) -> tuple[TextProcessor, sentencepiece.SentencePieceProcessor]:
    """A model folder whose parent has the tokenizer, as in Meta's release of Llama 2."""
    model = train_sentencepiece()
    folder = tmp_path_factory.mktemp("llama2")
    (folder / "tokenizer.model").write_bytes(model)
    (folder / "7b").mkdir()
    text = load_text_processor("meta", folder / "7b", {})
    return text, sentencepiece.SentencePieceProcessor(model_proto=model)


def test_llama2_dialogues_equal_the_reference_code(
    llama2: tuple[TextProcessor, sentencepiece.SentencePieceProcessor],
) -> None:
    text, library = llama2
    messages = [
        {"role": "system", "content": "Singkat </s>."},
        {"role": "user", "content": " Halo <s>[INST] "},
        {"role": "assistant", "content": " Baik\n"},
        {"role": "user", "content": "Terima kasih"},
    ]

    def bos_eos(string: str, end: bool) -> list[int]:
        return [library.bos_id(), *library.EncodeAsIds(string), *([library.eos_id()] if end else [])]

    first = "[INST] <<SYS>>\nSingkat </s>.\n<</SYS>>\n\n Halo <s>[INST] [/INST] Baik "
    expected = bos_eos(first, True) + bos_eos("[INST] Terima kasih [/INST]", False)
    assert encode_chat(text, messages) == expected
    assert text.add_bos
    for string in strings()[:2000]:
        assert text.tokenizer.encode(string) == library.EncodeAsIds(string)


def test_llama2_dialogues_must_alternate(llama2: tuple[TextProcessor, sentencepiece.SentencePieceProcessor]) -> None:
    user = {"role": "user", "content": "a"}
    for messages in ([user, user], [{"role": "system", "content": "a"}], [{"role": "assistant", "content": "a"}]):
        with pytest.raises(TemplateError):
            encode_chat(llama2[0], messages)


def lines(count: int = 256) -> list[bytes]:
    from base64 import b64encode

    return [b64encode(bytes([i])) + b" %d" % i for i in range(count)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no token for the byte 0x00"),
        (b"\n".join(lines(255)), "0xff"),
        (b"\n".join([*lines(), b"QUI= 300"]), "0, 1, 2"),
        (b"\n".join([*lines(), b"QQ== 256"]), "0, 1, 2"),
        (b"\n".join([*lines(), b"QUI="]), "line 257"),
        (b"\n".join([*lines(), b"\xff\xfe 256"]), "line 257"),
        (b"\n\x0e\n\x05<unk>", "SentencePiece refuses"),
    ],
)
def test_broken_files_are_reported(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(TokenizerError, match=message):
        load_text_processor("meta", tmp_path, {})


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.model"):
        load_text_processor("meta", tmp_path / "model", {})
