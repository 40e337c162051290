"""The tokenizer and chat template of a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from empu.errors import TokenizerError
from empu.system.files import read_json_object
from empu.text.base import TextProcessor
from empu.text.templates.jinja import JinjaTemplate, choose_template
from empu.text.tokenizers.files import read_utf8, read_vocabulary
from empu.text.tokenizers.hf_tokenizer import HuggingFaceTokenizer, parse_tokenizer_json
from empu.text.tokenizers.sentencepiece import SentencePieceTokenizer, added_pieces, is_sentencepiece
from empu.text.tokenizers.tiktoken import TiktokenTokenizer

_TOKEN_NAMES = ("bos", "eos", "unk", "pad", "sep", "cls", "mask")


def load_huggingface(path: Path, config: Mapping[str, Any]) -> TextProcessor:
    """Load ``tokenizer.json``, or else ``tokenizer.model``, and the settings in the files beside it."""
    folder = path if path.is_dir() else path.parent
    settings = _read_optional_json(folder / "tokenizer_config.json")
    generation = _read_optional_json(folder / "generation_config.json")
    eos_ids = {
        *_token_ids(config, "eos_token_id", folder / "config.json"),
        *_token_ids(generation, "eos_token_id", folder / "generation_config.json"),
    }
    bos_ids = _token_ids(config, "bos_token_id", folder / "config.json")
    bos_id = bos_ids[0] if bos_ids else None
    tokenizer: HuggingFaceTokenizer | SentencePieceTokenizer | TiktokenTokenizer
    if (folder / "tokenizer.json").is_file():
        tokenizer = _load_tokenizer_json(folder / "tokenizer.json", settings, bos_id, eos_ids)
        add_bos = tokenizer.begins_with_bos()
    elif (folder / "tokenizer.model").is_file():
        file = folder / "tokenizer.model"
        data = read_vocabulary(file)
        if is_sentencepiece(data):
            data = _with_added_tokens(data, settings, file)
            tokenizer = SentencePieceTokenizer(data, str(file), bos_id=bos_id, eos_ids=eos_ids)
        else:
            tokenizer = TiktokenTokenizer(data, str(file))
        add_bos = True
    else:
        raise TokenizerError(f"{folder} has neither tokenizer.json nor tokenizer.model; fetch one of them as well.")
    if isinstance(settings.get("add_bos_token"), bool):
        add_bos = settings["add_bos_token"]
    for token in eos_ids:
        if token >= max(tokenizer.vocab_size, _vocab_size(config)):
            raise TokenizerError(
                f"{folder}: its configuration names {token:,} as the end token, but the tokenizer has only "
                f"{tokenizer.vocab_size:,} tokens; correct eos_token_id in config.json or generation_config.json, or "
                "fetch the folder again."
            )
    template = _load_template(folder, settings)
    return TextProcessor(tokenizer, template, add_bos and tokenizer.bos_id is not None)


def _load_tokenizer_json(
    file: Path, settings: Mapping[str, Any], bos_id: int | None, eos_ids: Iterable[int]
) -> HuggingFaceTokenizer:
    backend = parse_tokenizer_json(read_utf8(file), str(file))
    bos, eos = _token_text(settings.get("bos_token")), _token_text(settings.get("eos_token"))
    named_bos = backend.token_to_id(bos) if bos else None
    named_eos = backend.token_to_id(eos) if eos else None
    return HuggingFaceTokenizer(
        backend,
        str(file),
        bos_id=named_bos if named_bos is not None else bos_id,
        eos_ids=[*eos_ids, *([named_eos] if named_eos is not None else [])],
    )


def _with_added_tokens(data: bytes, settings: Mapping[str, Any], file: Path) -> bytes:
    """Return the model with the tokens that were added to it later. Their ids must follow its own."""
    vocab_size = SentencePieceTokenizer(data, str(file)).vocab_size
    decoder = settings.get("added_tokens_decoder")
    added_tokens: dict[int, dict[str, Any]] = {}
    for i, token in decoder.items() if isinstance(decoder, dict) else ():
        if not i.isascii() or not i.isdigit() or not isinstance(token, dict) or _token_text(token) is None:
            raise TokenizerError(f"{file}: added_tokens_decoder of tokenizer_config.json has no token at {i!r:.40}.")
        added_tokens[int(i)] = token
    new_tokens = {i: token for i, token in sorted(added_tokens.items()) if i >= vocab_size}
    if list(new_tokens) != list(range(vocab_size, vocab_size + len(new_tokens))):
        raise TokenizerError(
            f"{file}: the added tokens of tokenizer_config.json do not follow its {vocab_size:,} tokens."
        )
    return data + added_pieces((str(token.get("content")), bool(token.get("special"))) for token in new_tokens.values())


def _load_template(folder: Path, settings: Mapping[str, Any]) -> JinjaTemplate | None:
    """Load the chat template.

    As in transformers, ``chat_template.jinja`` overrides ``tokenizer_config.json``, which overrides
    ``chat_template.json``.
    """
    templates: dict[str, object] = {}
    for source in (_read_optional_json(folder / "chat_template.json"), settings):
        value = source.get("chat_template")
        if isinstance(value, list):
            templates |= {str(item.get("name")): item.get("template") for item in value if isinstance(item, dict)}
        elif value is not None:
            templates["default"] = value
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = read_utf8(folder / "chat_template.jinja")
    for file in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[file.stem] = read_utf8(file)
    variables = {f"{name}_token": text for name in _TOKEN_NAMES if (text := _token_text(settings.get(f"{name}_token")))}
    return choose_template(templates, variables, str(folder))


def _token_text(token: object) -> str | None:
    """Return the text of a token in ``tokenizer_config.json``, which is a string or an object."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None


def _token_ids(source: Mapping[str, Any], key: str, file: Path) -> list[int]:
    """Return the ids of a key, which is absent, null, an id or a list of ids."""
    value = source.get(key)
    values = value if isinstance(value, list) else [] if value is None else [value]
    for item in values:
        if type(item) is not int or item < 0:
            raise TokenizerError(f"{file}: {key} is {value!r:.60}; expected a token id, a list of ids, or null.")
    return values


def _vocab_size(config: Mapping[str, Any]) -> int:
    """Return the rows of the model's embedding, which may be more than the tokenizer's tokens; 0 if not stated."""
    size = config.get("vocab_size")
    return size if isinstance(size, int) else 0


def _read_optional_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if there is no such file."""
    return read_json_object(path, TokenizerError) if path.is_file() else {}
