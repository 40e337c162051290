"""The tokenizer and chat template in the metadata of a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empu.errors import TokenizerError, UnsupportedError
from empu.system.quoting import shortened
from empu.text.base import TextProcessor, Tokenizer
from empu.text.templates.jinja import JinjaTemplate, choose_template
from empu.text.tokenizers.gguf_bpe import PRE_TOKENIZERS, build_bpe
from empu.text.tokenizers.sentencepiece import PieceType, SentencePieceTokenizer, serialize

_PREFIX = "tokenizer.ggml."
_MAX_TOKENS = 2_000_000


def load_gguf(path: Path, metadata: Mapping[str, Any]) -> TextProcessor:
    """Load the tokenizer and chat template.

    Raises :class:`TokenizerError` for missing or wrong keys and :class:`UnsupportedError` for other kinds of tokenizer.
    """
    fields = _TokenizerFields(path, metadata)
    model = fields.text("model")
    tokens = fields.tokens()
    types = fields.numbers("token_type", len(tokens), default=int(PieceType.NORMAL), type_=int)
    eos_ids = {i for key in ("eos", "eot", "eom") if (i := fields.token(f"{key}_token_id", len(tokens))) is not None}
    bos_id = fields.token("bos_token_id", len(tokens))
    tokenizer: Tokenizer
    if model == "gpt2":
        pre = fields.text("pre", "default")
        merges = fields.strings("merges")
        tokenizer = build_bpe(tokens, types, merges, pre, str(path), bos_id=bos_id, eos_ids=eos_ids)
        add_bos = PRE_TOKENIZERS[pre].add_bos
    elif model == "llama":
        scores = fields.numbers("scores", len(tokens), default=None, type_=float)
        unknown = fields.token("unknown_token_id", len(tokens))
        if PieceType.UNKNOWN not in types and unknown is not None:
            types[unknown] = int(PieceType.UNKNOWN)
        add_space_prefix = fields.flag("add_space_prefix", True)
        serialized = serialize(tokens, scores, types, add_space_prefix=add_space_prefix)
        tokenizer = SentencePieceTokenizer(serialized, str(path), bos_id=bos_id, eos_ids=eos_ids)
        add_bos = True
    else:
        raise UnsupportedError(f"{path}: the tokenizer kind {model!r} is not supported; 'gpt2' and 'llama' are.")
    add_bos = fields.flag("add_bos_token", add_bos) and bos_id is not None
    return TextProcessor(tokenizer, _load_template(path, metadata, fields, tokens), add_bos)


def _load_template(
    path: Path, metadata: Mapping[str, Any], fields: _TokenizerFields, tokens: list[str]
) -> JinjaTemplate | None:
    templates = {"default": metadata.get("tokenizer.chat_template")}
    prefix = "tokenizer.chat_template."
    templates |= {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    names = (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    variables = {}
    for name, key in names:
        token = fields.token(f"{key}_token_id", len(tokens))
        if token is not None:
            variables[f"{name}_token"] = tokens[token]
    return choose_template(templates, variables, str(path))


class _TokenizerFields:
    """Typed access to the keys ``tokenizer.ggml.*``."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self._path = path
        self._metadata = metadata

    def text(self, key: str, default: str | None = None) -> str:
        value = self._metadata.get(_PREFIX + key, default)
        if not isinstance(value, str):
            raise self._wrong_value(key, value, "a string")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._metadata.get(_PREFIX + key, default)
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise self._wrong_value(key, value, "true or false")
        return bool(value)

    def strings(self, key: str) -> list[str]:
        value: Any = self._metadata.get(_PREFIX + key)
        if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or not hasattr(value, "__iter__"):
            raise self._wrong_value(key, value, "a list of strings")
        result = list(value)
        if not all(isinstance(item, str) for item in result):
            raise self._wrong_value(key, next(item for item in result if not isinstance(item, str)), "only strings")
        return result

    def tokens(self) -> list[str]:
        tokens = self.strings("tokens")
        if not 0 < len(tokens) <= _MAX_TOKENS:
            raise self._wrong_value("tokens", f"{len(tokens):,} tokens", f"1 to {_MAX_TOKENS:,} tokens")
        return tokens

    def numbers(self, key: str, length: int, *, default: int | None, type_: type) -> list[Any]:
        value: Any = self._metadata.get(_PREFIX + key)
        if value is None and default is not None:
            return [default] * length
        if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != length:
            raise self._wrong_value(key, type(value).__name__, f"{length:,} numbers, one for each token")
        values = value.tolist() if hasattr(value, "tolist") else list(value)
        try:
            return [type_(item) for item in values]
        except (TypeError, ValueError, OverflowError):
            raise self._wrong_value(key, "other values", "numbers") from None

    def token(self, key: str, count: int) -> int | None:
        value = self._metadata.get(_PREFIX + key)
        if value is None:
            return None
        try:
            token = int(value)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong_value(key, value, "a token id") from None
        # Some writers use the largest number of the type for "none".
        if token in (-1, 0xFFFFFFFF):
            return None
        if not 0 <= token < count:
            raise self._wrong_value(key, token, f"an id below {count:,}")
        return token

    def _wrong_value(self, key: str, value: object, expected: str) -> TokenizerError:
        return TokenizerError(f"{self._path}: {_PREFIX}{key} is {shortened(repr(value), 80)}; expected {expected}.")
