"""The tokenizer and chat template that a GGUF file carries in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empu.errors import TokenizerError, UnsupportedError
from empu.text.base import Text, Tokenizer
from empu.text.templates.jinja import JinjaTemplate, choose_template
from empu.text.tokenizers.gguf_bpe import CUTTINGS, build_bpe
from empu.text.tokenizers.sentencepiece import PieceType, SentencePieceTokenizer, serialize

_PREFIX = "tokenizer.ggml."
_MOST_TOKENS = 2_000_000


def load_gguf(path: Path, metadata: Mapping[str, Any]) -> Text:
    """Raises :class:`TokenizerError` for what is missing or wrong, :class:`UnsupportedError` for other kinds."""
    fields = _Fields(path, metadata)
    model = fields.text("model")
    tokens = fields.tokens()
    types = fields.numbers("token_type", len(tokens), default=int(PieceType.NORMAL), kind=int)
    eos_ids = {i for key in ("eos", "eot", "eom") if (i := fields.token(f"{key}_token_id", len(tokens))) is not None}
    bos_id = fields.token("bos_token_id", len(tokens))
    tokenizer: Tokenizer
    if model == "gpt2":
        pre = fields.text("pre", "default")
        merges = fields.strings("merges")
        tokenizer = build_bpe(tokens, types, merges, pre, str(path), bos_id=bos_id, eos_ids=eos_ids)
        add_bos = CUTTINGS[pre].begins_with_bos
    elif model == "llama":
        scores = fields.numbers("scores", len(tokens), default=None, kind=float)
        unknown = fields.token("unknown_token_id", len(tokens))
        if PieceType.UNKNOWN not in types and unknown is not None:
            types[unknown] = int(PieceType.UNKNOWN)
        prefix = fields.flag("add_space_prefix", True)
        serialized = serialize(tokens, scores, types, add_space_prefix=prefix)
        tokenizer = SentencePieceTokenizer(serialized, str(path), bos_id=bos_id, eos_ids=eos_ids)
        add_bos = True
    else:
        raise UnsupportedError(f"{path}: the tokenizer kind {model!r} is not supported; 'gpt2' and 'llama' are.")
    add_bos = fields.flag("add_bos_token", add_bos) and bos_id is not None
    return Text(tokenizer, _template(path, metadata, fields, tokens), add_bos)


def _template(path: Path, metadata: Mapping[str, Any], fields: _Fields, tokens: list[str]) -> JinjaTemplate | None:
    found = {"default": metadata.get("tokenizer.chat_template")}
    beginning = "tokenizer.chat_template."
    found |= {key.removeprefix(beginning): value for key, value in metadata.items() if key.startswith(beginning)}
    named = (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    variables = {}
    for name, key in named:
        token = fields.token(f"{key}_token_id", len(tokens))
        if token is not None:
            variables[f"{name}_token"] = tokens[token]
    return choose_template(found, variables, str(path))


class _Fields:
    """Checked access to ``tokenizer.ggml.*``."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self._path = path
        self._metadata = metadata

    def text(self, key: str, default: str | None = None) -> str:
        value = self._metadata.get(_PREFIX + key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._metadata.get(_PREFIX + key, default)
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise self._wrong(key, value, "true or false")
        return bool(value)

    def strings(self, key: str) -> list[str]:
        value: Any = self._metadata.get(_PREFIX + key)
        if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or not hasattr(value, "__iter__"):
            raise self._wrong(key, value, "a list of texts")
        result = list(value)
        if not all(isinstance(item, str) for item in result):
            raise self._wrong(key, next(item for item in result if not isinstance(item, str)), "texts only")
        return result

    def tokens(self) -> list[str]:
        tokens = self.strings("tokens")
        if not 0 < len(tokens) <= _MOST_TOKENS:
            raise self._wrong("tokens", f"{len(tokens):,} tokens", f"1 to {_MOST_TOKENS:,} tokens")
        return tokens

    def numbers(self, key: str, length: int, *, default: int | None, kind: type) -> list[Any]:
        value: Any = self._metadata.get(_PREFIX + key)
        if value is None and default is not None:
            return [default] * length
        if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != length:
            raise self._wrong(key, type(value).__name__, f"{length:,} numbers, one for each token")
        values = value.tolist() if hasattr(value, "tolist") else list(value)
        try:
            return [kind(item) for item in values]
        except (TypeError, ValueError, OverflowError):
            raise self._wrong(key, "something else", "numbers") from None

    def token(self, key: str, count: int) -> int | None:
        value = self._metadata.get(_PREFIX + key)
        if value is None:
            return None
        try:
            token = int(value)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong(key, value, "a token id") from None
        # Some writers say "none" by the largest number of the field's type.
        if token in (-1, 0xFFFFFFFF):
            return None
        if not 0 <= token < count:
            raise self._wrong(key, token, f"an id below {count:,}")
        return token

    def _wrong(self, key: str, value: object, expected: str) -> TokenizerError:
        shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "..."
        return TokenizerError(f"{self._path}: {_PREFIX}{key} holds {shown}, and {expected} must stand there.")
