"""Tokenizers that the ``tokenizers`` library runs: ``tokenizer.json`` files and the byte-level BPE of GGUF files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from empu.errors import TokenizerError, UnsupportedError
from empu.text.tokenizers.byte_decoder import ByteDecoder
from empu.text.tokenizers.special_tokens import ending_ids, well_formed

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SPACE = "▁"


class FastTokenizer(ByteDecoder):
    """Wraps a ``tokenizers.Tokenizer``. Tokens that were added as *special* are parsed on request only; other added
    tokens are text that has a token of its own, and are always found.
    """

    def __init__(self, backend: Backend, where: str, *, bos_id: int | None = None, eos_ids: Iterable[int] = ()) -> None:
        """``where`` names the file in messages; ``eos_ids`` add to the specials that end an answer by their name.

        Raises :class:`UnsupportedError` for a vocabulary that is neither bytes nor pieces with ``▁``.
        """
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._lock = Lock()  # whether specials are parsed is a switch of the backend
        self._added = backend.get_added_tokens_decoder()
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        self.set_special({token.content: i for i, token in self._added.items() if token.special})
        self.bos_id = bos_id
        self.eos_ids = ending_ids(self.special_tokens) | frozenset(eos_ids)
        self._byte_level, self.drops_leading_space = _decoding(backend, where)
        self._known_bytes: dict[int, bytes] = {}
        self._unparsed: Backend | None = None

    def encode(self, text: str, *, parse_special: bool = False, add_bos: bool = False) -> list[int]:
        """As in :class:`~empu.text.base.Tokenizer`."""
        text = well_formed(text)
        with self._lock:
            self._backend.encode_special_tokens = not parse_special
            ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return self.start(add_bos) + ids

    def encode_marked(self, text: str, marker: str) -> list[int]:
        """As in :class:`~empu.text.base.MarkedEncoder`: the marker goes when specials have been found already and
        nothing else has happened to the text, so that what it stood in is tokenized as if it had never been there.
        """
        from tokenizers import normalizers

        text = well_formed(text)
        with self._lock:
            if self._unparsed is None:
                self._unparsed = _with_unnormalized_specials(self._backend)
            own = self._backend.normalizer
            remove = normalizers.Replace(marker, "")
            self._unparsed.normalizer = normalizers.Sequence([remove, own]) if own is not None else remove
            ids: list[int] = self._unparsed.encode(text, add_special_tokens=False).ids
        return ids

    def to_json(self, *, add_bos: bool = False) -> str:
        """The whole tokenizer as the content of a ``tokenizer.json``; with ``add_bos`` it begins every text with that
        token, for programs that know of it from nowhere else.
        """
        from tokenizers import Tokenizer, processors

        bos = self._backend.id_to_token(self.bos_id) if add_bos and self.bos_id is not None else None
        if bos is None or self._backend.encode("", add_special_tokens=True).ids:
            return str(self._backend.to_str(pretty=False))
        backend = Tokenizer.from_str(self._backend.to_str(pretty=False))
        begin = processors.TemplateProcessing(
            single=[bos, "$A"], pair=[bos, "$A", "$B:1"], special_tokens=[(bos, self.bos_id)]
        )
        own = backend.post_processor
        backend.post_processor = processors.Sequence([own, begin]) if own is not None else begin
        return str(backend.to_str(pretty=False))

    def token_bytes(self, token: int) -> bytes:
        """As in :class:`~empu.text.base.Tokenizer`."""
        known = self._known_bytes.get(token)
        if known is None:
            known = self._known_bytes[token] = self._bytes_of(token)
        return known

    def _bytes_of(self, token: int) -> bytes:
        self.check(token)
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
        """Whether the file itself puts the BOS token before every text."""
        with self._lock:
            ids = self._backend.encode("", add_special_tokens=True).ids
        return self.bos_id is not None and ids[:1] == [self.bos_id]


def byte_alphabet() -> dict[str, int]:
    """Character -> byte in byte-level vocabularies: printable Latin-1 stands for itself, the others for the characters
    from U+0100 on, in order (GPT-2's convention).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTES = byte_alphabet()


def piece_bytes(piece: str) -> bytes:
    """Bytes of a byte-level piece; characters outside the alphabet mean themselves."""
    try:
        return bytes(_BYTES[char] for char in piece)
    except KeyError:
        return piece.encode("utf-8")


def _decoding(backend: Backend, where: str) -> tuple[bool, bool]:
    """Whether pieces are byte-level, and whether decoding drops one leading space."""
    decoder = backend.decoder
    steps = _flatten(json.loads(decoder.__getstate__())) if decoder is not None else []
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return True, False
    spaces = any(step.get("content") == " " and SPACE in str(step.get("pattern")) for step in steps)
    if "Metaspace" in kinds:
        metaspace = steps[kinds.index("Metaspace")]
        return False, metaspace.get("prepend_scheme", "always") != "never"
    if spaces and set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
        return False, any(step["type"] == "Strip" and step.get("start", 0) > 0 for step in steps)
    raise UnsupportedError(
        f"{where}: a vocabulary that is decoded by {' + '.join(kinds) or 'nothing'} is not supported; byte-level and "
        "SentencePiece vocabularies are."
    )


def _flatten(step: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for inner in step["decoders"] for part in _flatten(inner)] if "decoders" in step else [step]


def _with_unnormalized_specials(backend: Backend) -> Backend:
    """A copy that looks for special tokens before the normalizer has run, never after it."""
    from tokenizers import Tokenizer

    form = json.loads(backend.to_str())
    for token in form["added_tokens"]:
        if token["special"]:
            token["normalized"] = False
    return Tokenizer.from_str(json.dumps(form))


def read_backend(form: str, where: str) -> Backend:
    """Parse the text of a ``tokenizer.json``; raises :class:`TokenizerError`."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(form)
    except BaseException as error:  # the library raises bare Exception, and a panic is not even that
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        reason = " ".join(str(error).split())
        raise TokenizerError(f"{where} is no tokenizer that the tokenizers library can read ({reason}).") from None
