"""The tokenizer and chat template beside the weights, in Hugging Face folders and in Meta's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from empu.errors import TokenizerError
from empu.text.base import Text
from empu.text.templates.jinja import JinjaTemplate, choose_template
from empu.text.templates.meta_dialogue import Llama2Dialogue, Llama3Dialogue
from empu.text.tokenizers.hf_tokenizer import FastTokenizer, read_backend
from empu.text.tokenizers.sentencepiece import SentencePieceTokenizer, added_pieces, is_sentencepiece
from empu.text.tokenizers.tiktoken import TiktokenTokenizer

_MOST_BYTES = 256 * 1024 * 1024
_NAMED = ("bos", "eos", "unk", "pad", "sep", "cls", "mask")


def load_meta(path: Path) -> Text:
    """The ``tokenizer.model`` in the folder or, as in Meta's first releases, beside it, and the family's dialogues."""
    folder = path if path.is_dir() else path.parent
    file = next(
        (place / "tokenizer.model" for place in (folder, folder.parent) if (place / "tokenizer.model").is_file()), None
    )
    if file is None:
        raise TokenizerError(f"{folder} has no tokenizer.model; copy the one that came with the weights into it.")
    data = _read(file)
    if is_sentencepiece(data):
        return Text(SentencePieceTokenizer(data, str(file)), Llama2Dialogue(), True)
    return Text(TiktokenTokenizer(data, str(file)), Llama3Dialogue(), True)


def load_huggingface(path: Path, config: Mapping[str, Any]) -> Text:
    """``tokenizer.json``, or else ``tokenizer.model``, with what the files beside it say about BOS and endings."""
    folder = path if path.is_dir() else path.parent
    settings = _json(folder / "tokenizer_config.json")
    ends = {*_ids(config, "eos_token_id"), *_ids(_json(folder / "generation_config.json"), "eos_token_id")}
    bos_ids = _ids(config, "bos_token_id")
    bos_id = bos_ids[0] if bos_ids else None
    tokenizer: FastTokenizer | SentencePieceTokenizer | TiktokenTokenizer
    if (folder / "tokenizer.json").is_file():
        tokenizer = _fast(folder / "tokenizer.json", settings, bos_id, ends)
        add_bos = tokenizer.begins_with_bos()
    elif (folder / "tokenizer.model").is_file():
        file = folder / "tokenizer.model"
        data = _read(file)
        if is_sentencepiece(data):
            data = _with_added(data, settings, file)
            tokenizer = SentencePieceTokenizer(data, str(file), bos_id=bos_id, eos_ids=ends)
        else:
            tokenizer = TiktokenTokenizer(data, str(file))
        add_bos = True
    else:
        raise TokenizerError(f"{folder} has neither tokenizer.json nor tokenizer.model; fetch one of them as well.")
    if isinstance(settings.get("add_bos_token"), bool):
        add_bos = settings["add_bos_token"]
    template = _template(folder, settings)
    return Text(tokenizer, template, add_bos and tokenizer.bos_id is not None)


def _fast(file: Path, settings: Mapping[str, Any], bos_id: int | None, ends: Iterable[int]) -> FastTokenizer:
    backend = read_backend(_text(file), str(file))
    bos, eos = _spelling(settings.get("bos_token")), _spelling(settings.get("eos_token"))
    named_bos = backend.token_to_id(bos) if bos else None
    named_eos = backend.token_to_id(eos) if eos else None
    return FastTokenizer(
        backend,
        str(file),
        bos_id=named_bos if named_bos is not None else bos_id,
        eos_ids=[*ends, *([named_eos] if named_eos is not None else [])],
    )


def _with_added(data: bytes, settings: Mapping[str, Any], file: Path) -> bytes:
    """The model with the tokens that were added to it later; their ids must follow its own."""
    count = SentencePieceTokenizer(data, str(file)).vocab_size
    decoder = settings.get("added_tokens_decoder")
    listed: dict[int, dict[str, Any]] = {}
    for i, token in decoder.items() if isinstance(decoder, dict) else ():
        if not i.isascii() or not i.isdigit() or not isinstance(token, dict) or _spelling(token) is None:
            raise TokenizerError(f"{file}: added_tokens_decoder of tokenizer_config.json has no token at {i!r:.40}.")
        listed[int(i)] = token
    more = {i: token for i, token in sorted(listed.items()) if i >= count}
    if list(more) != list(range(count, count + len(more))):
        raise TokenizerError(f"{file}: the added tokens of tokenizer_config.json do not follow its {count:,} tokens.")
    return data + added_pieces((str(token.get("content")), bool(token.get("special"))) for token in more.values())


def _template(folder: Path, settings: Mapping[str, Any]) -> JinjaTemplate | None:
    """``chat_template.jinja`` before ``tokenizer_config.json`` before ``chat_template.json``, as transformers reads."""
    found: dict[str, object] = {}
    for source in (_json(folder / "chat_template.json"), settings):
        value = source.get("chat_template")
        if isinstance(value, list):
            found |= {str(item.get("name")): item.get("template") for item in value if isinstance(item, dict)}
        elif value is not None:
            found["default"] = value
    if (folder / "chat_template.jinja").is_file():
        found["default"] = _text(folder / "chat_template.jinja")
    for file in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[file.stem] = _text(file)
    variables = {f"{name}_token": text for name in _NAMED if (text := _spelling(settings.get(f"{name}_token")))}
    return choose_template(found, variables, str(folder))


def _spelling(token: object) -> str | None:
    """A token in ``tokenizer_config.json`` is its text or an object with it."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None


def _ids(source: Mapping[str, Any], key: str) -> list[int]:
    value = source.get(key)
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, int) and not isinstance(item, bool) and item >= 0]


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise TokenizerError(f"{path} has {size:,} bytes; no tokenizer has more than {_MOST_BYTES:,}.")
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror}).") from None


def _text(path: Path) -> str:
    try:
        return _read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8 text (byte {error.start:,}); fetch it again.") from None


def _json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; empty when there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError):
        raise TokenizerError(f"{path} is not JSON; fetch it again.") from None
    if not isinstance(value, dict):
        raise TokenizerError(f"{path} holds no JSON object; fetch it again.")
    return value
