"""Tokenizers of the ``tokenizers`` library: ``tokenizer.json`` files, and the byte-level BPE of GGUF files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from empu.errors import TokenizerError, UnsupportedError
from empu.text.tokenizers.byte_decoder import ByteDecoder
from empu.text.tokenizers.special_tokens import end_token_ids, to_well_formed

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SPACE = "▁"


class HuggingFaceTokenizer(ByteDecoder):
    """Wraps a ``tokenizers.Tokenizer``.

    Added tokens that are *special* are parsed on request only. Other added tokens are text with a token of its own and
    are always parsed.
    """

    def __init__(self, backend: Backend, where: str, *, bos_id: int | None = None, eos_ids: Iterable[int] = ()) -> None:
        """``where`` begins the error messages; ``eos_ids`` are the end tokens that the model's files declare.

        Raises :class:`UnsupportedError` for a vocabulary that is neither byte-level nor SentencePiece (with ``▁``).
        """
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._lock = Lock()  # parsing of special tokens is state of the backend
        self._added = backend.get_added_tokens_decoder()
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        self.set_special_tokens({token.content: i for i, token in self._added.items() if token.special})
        self.bos_id = bos_id
        self.eos_ids = end_token_ids(self.special_tokens, eos_ids)
        self._byte_level, self.drops_leading_space = _describe_decoder(backend, where)
        self._token_bytes: dict[int, bytes] = {}
        self._marker_backend: Backend | None = None

    def encode(self, text: str, *, parse_special: bool = False, add_bos: bool = False) -> list[int]:
        """As in :class:`~empu.text.base.Tokenizer`."""
        text = to_well_formed(text)
        with self._lock:
            self._backend.encode_special_tokens = not parse_special
            ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return self.bos_prefix(add_bos) + ids

    def encode_with_marker(self, text: str, marker: str) -> list[int]:
        """As in :class:`~empu.text.base.MarkerAwareTokenizer`.

        The normalizer removes the marker, after special tokens were found and before anything else happens.
        """
        from tokenizers import normalizers

        text = to_well_formed(text)
        with self._lock:
            if self._marker_backend is None:
                self._marker_backend = _with_unnormalized_specials(self._backend)
            normalizer = self._backend.normalizer
            remove_marker = normalizers.Replace(marker, "")
            self._marker_backend.normalizer = (
                normalizers.Sequence([remove_marker, normalizer]) if normalizer is not None else remove_marker
            )
            ids: list[int] = self._marker_backend.encode(text, add_special_tokens=False).ids
        return ids

    def to_json(self, *, add_bos: bool = False) -> str:
        """Return the content of a ``tokenizer.json``. With ``add_bos`` it adds the BOS token to every text itself."""
        from tokenizers import Tokenizer, processors

        bos = self._backend.id_to_token(self.bos_id) if add_bos and self.bos_id is not None else None
        if bos is None or self._backend.encode("", add_special_tokens=True).ids:
            return str(self._backend.to_str(pretty=False))
        backend = Tokenizer.from_str(self._backend.to_str(pretty=False))
        add_bos_processor = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", "$B:1"], special_tokens=[(bos, self.bos_id)]
        )
        own = backend.post_processor
        backend.post_processor = processors.Sequence([own, add_bos_processor]) if own is not None else add_bos_processor
        return str(backend.to_str(pretty=False))

    def token_bytes(self, token: int) -> bytes:
        """As in :class:`~empu.text.base.Tokenizer`."""
        data = self._token_bytes.get(token)
        if data is None:
            data = self._token_bytes[token] = self._compute_bytes(token)
        return data

    def _compute_bytes(self, token: int) -> bytes:
        self.check_token(token)
        if token in self._names:
            return b""
        if token in self._added:
            return self._added[token].content.encode("utf-8")
        piece = self._backend.id_to_token(token)
        if piece is None:
            return b""  # a gap in the vocabulary
        if self._byte_level:
            return piece_bytes(piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(SPACE, " ").encode("utf-8")

    def begins_with_bos(self) -> bool:
        """Return whether the file itself adds the BOS token to every text."""
        with self._lock:
            ids = self._backend.encode("", add_special_tokens=True).ids
        return self.bos_id is not None and ids[:1] == [self.bos_id]


def byte_alphabet() -> dict[str, int]:
    """Return character -> byte of byte-level vocabularies (GPT-2's convention).

    Printable Latin-1 characters are themselves. The other bytes are the characters from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTES = byte_alphabet()


def piece_bytes(piece: str) -> bytes:
    """Return the bytes of a byte-level token; text outside the alphabet stands for itself."""
    try:
        return bytes(_BYTES[char] for char in piece)
    except KeyError:
        return piece.encode("utf-8")


def _describe_decoder(backend: Backend, where: str) -> tuple[bool, bool]:
    """Return whether the vocabulary is byte-level, and whether decoding drops one leading space."""
    decoder = backend.decoder
    steps = _flatten(json.loads(decoder.__getstate__())) if decoder is not None else []
    types = [step["type"] for step in steps]
    if types == ["ByteLevel"]:
        return True, False
    replaces_space = any(step.get("content") == " " and SPACE in str(step.get("pattern")) for step in steps)
    if "Metaspace" in types:
        metaspace = steps[types.index("Metaspace")]
        return False, metaspace.get("prepend_scheme", "always") != "never"
    if replaces_space and set(types) <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
        return False, any(step["type"] == "Strip" and step.get("start", 0) > 0 for step in steps)
    raise UnsupportedError(
        f"{where}: a vocabulary that is decoded by {' + '.join(types) or 'no decoder'} is not supported; byte-level "
        "and SentencePiece vocabularies are."
    )


def _flatten(step: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for inner in step["decoders"] for part in _flatten(inner)] if "decoders" in step else [step]


def _with_unnormalized_specials(backend: Backend) -> Backend:
    """Return a copy that finds special tokens before the normalizer runs, never after it."""
    from tokenizers import Tokenizer

    content = json.loads(backend.to_str())
    for token in content["added_tokens"]:
        if token["special"]:
            token["normalized"] = False
    return Tokenizer.from_str(json.dumps(content))


def parse_tokenizer_json(content: str, where: str) -> Backend:
    """Parse the content of a ``tokenizer.json``. Raises :class:`TokenizerError`."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(content)
    except BaseException as error:  # the library raises bare Exception, and a panic is not even that
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        reason = " ".join(str(error).split())
        raise TokenizerError(f"{where} is not a tokenizer that the tokenizers library can read ({reason}).") from None
