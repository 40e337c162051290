"""Damaged and hostile GGUF files: each opens as a well-formed checkpoint or is refused with an error, in little memory.

Each handmade file breaks one rule. The others are a small valid file truncated at every byte, with every bit of its
header flipped, and mutated at random.
"""

from __future__ import annotations

import math
import random
import re
import resource
import struct
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from empu.checkpoint import open_checkpoint
from empu.checkpoint.tensor_names import expected_shapes
from empu.errors import CheckpointError, EmpuError
from tests.checkpoint.formats.gguf.raw_file import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I32,
    SMALLEST,
    STRING,
    U8,
    U16,
    U32,
    U64,
    RawGguf,
    info,
    string,
    value,
)

MAX_PEAK_BYTES = 4 << 20
"""Memory for opening any of these files of a few KB."""
MAX_SECONDS = 2.0
MUTATIONS = 20_000

Change = Callable[[RawGguf], object]
EDGE_VALUES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


# Handmade files


def set_fields(**changes: object) -> Change:
    """Set attributes of the raw file."""

    def change(raw: RawGguf) -> None:
        for name, content in changes.items():
            setattr(raw, name, content)

    return change


def with_key(key: str, content: bytes) -> Change:
    return lambda raw: raw.set(key, content)


def without(key: str) -> Change:
    return lambda raw: raw.without(key)


def with_info(row: bytes) -> Change:
    """Replace the table entry of token_embd.weight, which has (5, 4) values at offset 0."""
    return lambda raw: raw.infos.__setitem__(0, row)


def all_of(*changes: Change) -> Change:
    return lambda raw: [change(raw) for change in changes]


def with_pair(key: bytes, content: bytes) -> Change:
    return lambda raw: raw.keys.append((key, content))


def with_vector(name: str) -> Change:
    return lambda raw: raw.add(name, np.ones(4, "<f4"))


def with_data(change: Callable[[RawGguf], bytes]) -> Change:
    return lambda raw: setattr(raw, "data", change(raw))


def drop_infos(count: int) -> Change:
    """Remove the last entries of the tensor table."""
    return lambda raw: raw.infos.__delitem__(slice(-count, None))


def drop_data(size: int) -> Change:
    return lambda raw: setattr(raw, "data", raw.data[:-size])


def embedding(dims: list[int], kind: int = 0, offset: int = 0, n_dims: int | None = None) -> Change:
    return with_info(info("token_embd.weight", dims, kind, offset, n_dims))


def array_of(inner: int, count: int, content: bytes = b"") -> bytes:
    """Encode an array whose count may be wrong."""
    return u32(ARRAY) + u32(inner) + u64(count) + content


def nested_array(depth: int) -> bytes:
    return u32(ARRAY) + (u32(ARRAY) + u64(1)) * depth + u32(U8) + u64(1) + b"\x07"


def bad_counts() -> Iterator[tuple[str, Change, str]]:
    for number in EDGE_VALUES:
        if number != 0:  # too few is another rule
            yield f"tensors={number}", set_fields(n_tensors=number), ""
            yield f"keys={number}", set_fields(n_keys=number), ""
        elif number == 0:
            yield "tensors=0", set_fields(n_tensors=0), "bytes at its end"
            yield "keys=0", set_fields(n_keys=0), ""
        if number > 5:
            yield f"key-length={number}", with_key("x", b""), ""
            yield f"string-length={number}", with_key("x", u32(STRING) + u64(number) + b"abc"), r"'x' at byte \d+ says"
            for kind in (U8, U16, U32, F32, BOOL, STRING, ARRAY, U64, F64):
                yield (
                    f"array-of-{kind}-length={number}",
                    with_key("x", array_of(kind, number)),
                    r"length of 'x' at byte \d+ says",
                )
            for second in (0, 1):
                dims = [4, 5]
                dims[second] = number
                yield f"dim-{second}={number}", embedding(dims), "tensor 'token_embd.weight'"
            yield f"offset={number}", embedding([4, 5], offset=number), "tensor 'token_embd.weight'"
            yield f"name-length={number}", with_info(u64(number) + b"token_embd"), r"a tensor's name at byte \d+ says"
    for number in (0, 5, 6, 2**31, 2**32 - 1):
        yield f"n-dims={number}", embedding([4, 5], n_dims=number), f"says {number:,} dimensions; expected 1 to 4"
    yield "five-dims", embedding([4, 5, 1, 1, 1]), "says 5 dimensions"
    yield "product-wraps-to-zero", embedding([2**32, 2**32]), "which no tensor has"
    yield "product-wraps-to-twenty", embedding([4, 2**62 + 5]), "which no tensor has"
    yield "four-large-dims", embedding([2**16] * 4), "which no tensor has"
    yield "bytes-beyond-64-bits", embedding([2**61, 2]), "ends at byte"
    yield "end-wraps", embedding([2**60, 4], offset=2**64 - 32), "ends at byte"


def bad_keys() -> Iterator[tuple[str, Change, str]]:
    yield "magic-lower-case", set_fields(magic=b"gguf"), "not a model that Empu can open"
    yield "magic-reversed", set_fields(magic=b"FUGG"), "not a model that Empu can open"
    for version in (0, 1, 4, 5, 2**24 * 2, 2**24 * 3, 2**31, 2**32 - 1):
        yield f"version={version}", set_fields(version=version), "version"
    for kind in (13, 14, 255, 2**31, 2**32 - 1):
        yield f"value-type={kind}", with_key("x", u32(kind) + bytes(16)), "'x' at byte .* has the value type"
        yield f"element-type={kind}", with_key("x", array_of(kind, 1, bytes(16))), "'x' at byte .* has elements of type"
    for size in (0, 1, 4, 7):  # nothing follows, so the value is truncated
        yield (
            f"cut-value-{size}",
            all_of(with_key("x", u32(F64) + bytes(size)), set_fields(infos=[], data=b"", alignment=1)),
            "'x' at byte .* needs 8 b",
        )
    yield "depth-6", with_key("x", nested_array(6)), "'x' at byte .* arrays inside arrays, more than 4 deep"
    yield "depth-1000", with_key("x", nested_array(1000)), "more than 4 deep"
    yield "bool=2", with_key("x", u32(BOOL) + b"\x02"), "'x' at byte .* truth value"
    yield "bools=2", with_key("x", array_of(BOOL, 3, b"\x01\x00\xff")), "'x' at byte .* truth value"
    for name, text in {
        "latin-1": b"caf\xe9",
        "surrogate": b"\xed\xa0\x80",
        "overlong": b"\xc0\x80",
        "cut": b"\xe5\x90",
    }.items():
        yield f"value-{name}", with_key("x", u32(STRING) + string(text)), "'x' at byte .* not UTF-8"
        yield (
            f"element-{name}",
            with_key("x", array_of(STRING, 2, string("a") + string(text))),
            "element 1 of 'x' at byte",
        )
        yield (
            f"key-{name}",
            with_pair(text, value(U8, 1)),
            r"key \d+ at byte .* not UTF-8",
        )
        yield f"tensor-{name}", with_info(info(text, [4, 5], 0, 0)), "tensor's name at byte .* not UTF-8"
    yield "key-too-long", with_key("k" * 65_537, value(U8, 1)), "has 65,537 bytes"
    yield "tensor-name-too-long", with_info(info("t" * 257, [4, 5], 0, 0)), "has 257 bytes"
    for name in ("", "a\nb", "\x1b[2J", "a\u202eb", "\x00"):
        yield f"tensor-name-{name!r}", with_info(info(name, [4, 5], 0, 0)), "tensor name .* empty or holds control"
    yield "key-twice", lambda raw: raw.keys.append(("general.name", value(STRING, "B"))), "'general.name' .* duplicate"
    yield "empty-key-twice", lambda raw: raw.keys.extend([("", value(U8, 1))] * 2), "the key '' at byte .* duplicate"
    strings = string("a" * 3) * 2
    yield "string-array-cut", with_key("x", array_of(STRING, 2, strings[:-4])), ""
    yield "string-array-beyond", with_key("x", array_of(STRING, 2, u64(3) + b"abc" + u64(2**40))), "element 1 of 'x'"
    for number in (0, 1, 2, 4, 7, 24, 31, 33, 2**20 + 1, 2**21, 2**31, 2**32 - 1):
        yield f"alignment={number}", with_key("general.alignment", value(U32, number)), r"general.alignment at byte \d+"
    for name, content in {"string": value(STRING, "32"), "float": value(F32, 32.0), "bool": value(BOOL, True)}.items():
        yield f"alignment-{name}", with_key("general.alignment", content), "general.alignment .* not a whole number"
    yield "alignment=-32", with_key("general.alignment", value(I32, -32)), "general.alignment at byte"
    yield "alignment-array", with_key("general.alignment", value(ARRAY, (U32, [32]))), "not a whole number"


REQUIRED = (
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.layer_norm_rms_epsilon",
)
NUMBERS = (*REQUIRED, "llama.attention.head_count_kv", "llama.vocab_size", "llama.attention.key_length")
OPTIONAL = ("llama.expert_count", "llama.attention.sliding_window", "llama.rope.freq_base", "llama.rope.scaling.factor")


def bad_models() -> Iterator[tuple[str, Change, str]]:
    for key in ("general.architecture", *REQUIRED):
        yield f"no-{key}", without(key), f"{key} is missing"
    wrong_types = {"string": value(STRING, "4"), "bool": value(BOOL, True), "array": value(ARRAY, (U32, [4, 4]))}
    for key in (*NUMBERS, *OPTIONAL):
        for name, content in wrong_types.items():
            yield f"{key}-{name}", with_key(key, content), rf"{re.escape(key)} at byte \d+ is .*expected a"
    for key in NUMBERS:
        is_integer = key != "llama.attention.layer_norm_rms_epsilon"
        if is_integer:
            yield (
                f"{key}-float",
                with_key(key, value(F32, 4.0)),
                rf"{re.escape(key)} at byte .* expected a whole number",
            )
        yield f"{key}-negative", with_key(key, value(I32, -1)), ""
        for number in EDGE_VALUES[2:] + ((0,) if is_integer else ()):
            yield f"{key}={number}", with_key(key, value(U64, number)), ""
    for extreme in (math.nan, math.inf, -math.inf, -1.0, 1e30):
        yield (
            f"eps={extreme}",
            with_key("llama.attention.layer_norm_rms_epsilon", value(F32, extreme)),
            r"epsilon at byte \d+: norm_eps",
        )
        yield (
            f"theta={extreme}",
            with_key("llama.rope.freq_base", value(F32, extreme)),
            r"freq_base at byte \d+: rope_theta",
        )
        yield f"linear={extreme}", with_key("llama.rope.scaling.factor", value(F32, extreme)), "RoPE scaling factor"
    yield "theta=0", with_key("llama.rope.freq_base", value(F32, 0.0)), "rope_theta"
    yield "theta=1e300", with_key("llama.rope.freq_base", value(F64, 1e300)), "rope_theta"
    for key in ("general.architecture", "general.type", "llama.rope.scaling.type"):
        for name, content in {"number": value(U32, 1), "array": value(ARRAY, (STRING, ["llama"]))}.items():
            yield f"{key}-{name}", with_key(key, content), f"{key} at byte .* expected a string"
        yield f"{key}-empty", with_key(key, value(STRING, "")), f"{key} at byte"
    yield "split-string", with_key("split.count", value(STRING, "1")), "split.count"
    yield "split-array", with_key("split.count", value(ARRAY, (U32, [1, 1]))), "split.count"
    for heads in (3, 5, 8):
        change = all_of(
            without("llama.attention.key_length"), with_key("llama.attention.head_count", value(U32, heads))
        )
        yield f"heads={heads}", change, "head_count at byte .* does not divide|head_dim"
    yield "kv-heads=4", with_key("llama.attention.head_count_kv", value(U32, 4)), "not a multiple of n_kv_heads"


def bad_tensors() -> Iterator[tuple[str, Change, str]]:
    for kind in (4, 5, 9, 15, 16, 23, 24, 28, 31, 36, 39, 41, 42, 255, 2**31, 2**32 - 1):
        yield f"type={kind}", embedding([4, 5], kind=kind), "'token_embd.weight' .* which Empu does not read"
    for kind in (2, 3, 6, 7, 8, 10, 11, 12, 13, 14):
        yield f"rows-of-4-in-{kind}", embedding([4, 5], kind=kind), "rows of 4 values, not a multiple of"
    for dims in ([0, 5], [4, 0], [0], [0, 0], [4, 5, 0], [4, 5, 1, 0]):
        yield f"dims={dims}", embedding(dims), "which no tensor has"
    for dims in ([5, 4], [20], [4, 4], [4, 6], [2, 10], [4, 5, 1], [1, 4, 5], [4, 5, 1, 1], [4, 5, 2]):
        yield f"shape={dims}", embedding(dims), "wrong shape|overlaps|belong to nothing"
    for offset in (1, 4, 16, 31, 33, 2**63 + 1):
        yield f"offset={offset}", embedding([4, 5], offset=offset), "not a multiple of the alignment 32"
    for offset in (32, 96, 128):
        yield f"overlap-at-{offset}", embedding([4, 5], offset=offset), "overlaps|belong to nothing"
    yield "f16-leaves-a-gap", embedding([4, 5], kind=1), "bytes from byte .* belong to nothing"
    yield "tensor-twice", lambda raw: raw.infos.append(raw.infos[0]), "'token_embd.weight' .* listed twice"
    yield "same-place", lambda raw: raw.infos.append(info("blk.1.attn_q.weight", [4, 4], 0, 0)), "overlaps"
    yield "all-at-zero", lambda raw: raw.infos.extend(info(f"t{i}", [8], 0, 0) for i in range(50)), "overlaps"
    yield "beyond-the-file", lambda raw: raw.infos.append(info("x", [4], 0, len(raw.data))), "'x' .* ends at byte"
    yield "far-beyond-the-file", embedding([4, 5], offset=2**40), "ends at byte"
    yield "no-tensors", set_fields(infos=[], data=b""), "vocab_size is missing"
    yield "no-data", set_fields(data=b""), "ends at byte"
    yield "data-cut", drop_data(32), "ends at byte"
    yield "trailing-block", with_data(lambda raw: raw.data + bytes(32)), "48 bytes at its end, from byte"
    yield "trailing-file", with_data(lambda raw: raw.data + raw.bytes()), "bytes at its end, from byte"
    for name, count, size in (("norm.weight", 2, 128), ("layers.0.feed_forward.down.weight", 3, 224)):
        cut = all_of(drop_infos(count), drop_data(size))
        yield f"without-the-last-{count}", cut, f"missing {name}"
    for name in ("blk.0.attn_q.bias", "blk.1.attn_q.weight", "token_embd.weight.1", "rope_freqs.weight", "lora_a"):
        yield f"also-{name}", with_vector(name), "unexpected|rope_freqs.weight"
    for name in ("embedding.weight", "norm.weight", "layers.0.ffn_norm.weight"):
        yield f"ours-{name}", with_vector(name), "does not have a GGUF name"


HANDMADE = [*bad_counts(), *bad_keys(), *bad_models(), *bad_tensors()]


def test_there_are_enough_handmade_files_each_with_a_name() -> None:
    names = Counter(name for name, _, _ in HANDMADE)
    assert not [name for name, count in names.items() if count > 1]
    assert len(HANDMADE) >= 150
    print(f"{len(HANDMADE)} handmade files")


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass
class OpenAttempts:
    """Opens files, checks each result, and counts the outcomes."""

    path: Path
    trace_every: int = 1
    """Memory is traced for one in so many files, since tracing takes four times as long as opening."""
    resident_before: int = field(default_factory=lambda: peak_resident_bytes())
    opened: int = 0
    refused: int = 0
    worst_peak: int = 0
    worst_seconds: float = 0.0
    messages: Counter[str] = field(default_factory=Counter)

    def attempt(self, content: bytes) -> str | None:
        """Return the error message, or ``None`` if the file opened as a well-formed checkpoint."""
        self.path.write_bytes(content)
        is_traced = (self.opened + self.refused) % self.trace_every == 0
        if is_traced:
            tracemalloc.start()
        start = time.perf_counter()
        message = None
        try:
            with open_checkpoint(self.path) as checkpoint:
                expected = expected_shapes(checkpoint.config)
                for tensor in checkpoint.tensors():
                    assert tensor.float32().shape == tensor.shape == expected.pop(tensor.name)
                assert not expected
            self.opened += 1
        except EmpuError as error:
            message = str(error)
            assert str(self.path) in message
            assert len(message) < 1500
            assert message.isprintable()
            self.messages[re.sub(r"[\d,]+|'.*?'", "#", message.replace(str(self.path), ""))[:60]] += 1
            self.refused += 1
        self.worst_seconds = max(self.worst_seconds, time.perf_counter() - start)
        if is_traced:
            self.worst_peak = max(self.worst_peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return message

    def report(self, description: str) -> None:
        growth = peak_resident_bytes() - self.resident_before
        print(
            f"{description}: {self.opened:,} opened, {self.refused:,} refused in {len(self.messages)} ways; at most "
            f"{self.worst_peak / 1e6:.2f} MB and {self.worst_seconds * 1e3:.0f} ms each; {growth / 1e6:.0f} MB together"
        )
        assert growth < 64 << 20
        assert self.worst_peak < MAX_PEAK_BYTES
        assert self.worst_seconds < MAX_SECONDS


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[OpenAttempts]:
    yield OpenAttempts(tmp_path / "m.gguf")
    tracemalloc.stop()  # in case an assertion failed


def test_every_handmade_file_is_refused_with_a_reason(attempts: OpenAttempts) -> None:
    assert attempts.attempt(RawGguf.smallest().bytes()) is None
    for name, change, expected in HANDMADE:
        raw = RawGguf.smallest()
        change(raw)
        message = attempts.attempt(raw.bytes())
        assert message is not None, f"{name} opened"
        assert re.search(expected, message), f"{name}: {message}"
        assert re.search(r"at byte|from byte|llama\.|general\.|tensors?|'\w|not a model", message), f"{name}: {message}"
    attempts.report("handmade files")
    assert attempts.refused == len(HANDMADE)


def test_every_truncation_is_refused(attempts: OpenAttempts) -> None:
    content = RawGguf.smallest().bytes()
    # The last tensor does not fill its last 32 bytes. Missing padding does no harm.
    needed = len(content) - (-SMALLEST.vocab_size * SMALLEST.dim * 4) % 32
    for size in range(len(content)):
        message = attempts.attempt(content[:size])
        assert (message is None) == (size >= needed), f"{size} of {len(content)} bytes: {message}"
    attempts.report(f"truncations of {len(content):,} bytes")
    assert attempts.refused == needed


def test_every_flipped_header_bit_is_handled(attempts: OpenAttempts) -> None:
    raw = RawGguf.smallest()
    content, header = bytearray(raw.bytes()), len(raw.header())
    attempts.trace_every = 16
    for position in range(header):
        for bit in range(8):
            content[position] ^= 1 << bit
            attempts.attempt(bytes(content))
            content[position] ^= 1 << bit
    attempts.report(f"bits of {header:,} bytes")
    assert attempts.opened + attempts.refused == 8 * header
    assert attempts.refused > 4 * header
    assert attempts.opened > header  # names, tokens and scores differ but are still well formed


def mutate(content: bytes, header: int, rng: random.Random) -> bytes:
    """Apply one to four changes, mostly in the header and often to a dangerous number."""
    result = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(header if rng.random() < 0.9 else len(result)) % max(1, len(result))
        match rng.choice((0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 6)):
            case 0:
                result[at] = rng.randrange(256)
            case 1:
                result[at : at + 4] = u32(rng.choice(EDGE_VALUES) & 0xFFFFFFFF)
            case 2:
                result[at : at + 8] = u64(rng.choice(EDGE_VALUES))
            case 3:
                del result[at : at + rng.randrange(1, 40)]
            case 4:
                result[at:at] = rng.randbytes(rng.randrange(1, 40))
            case 5:
                start = rng.randrange(header)
                result[at:at] = result[start : start + rng.randrange(1, 200)]
            case 6:
                result[at : at + 4] = u32(rng.randrange(16))
    return bytes(result)


def test_random_mutations_are_handled(attempts: OpenAttempts) -> None:
    raw, rng = RawGguf.smallest(), random.Random(20_260)
    content, header = raw.bytes(), len(raw.header())
    attempts.trace_every = 16
    for _ in range(MUTATIONS):
        attempts.attempt(mutate(content, header, rng))
    attempts.report(f"{MUTATIONS:,} mutations")
    assert attempts.opened + attempts.refused == MUTATIONS
    assert attempts.opened > 1000
    assert len(attempts.messages) > 30


def test_oversized_headers_are_refused_in_little_memory(attempts: OpenAttempts) -> None:
    """Megabytes of header that would expand many times in memory."""
    arrays = array_of(ARRAY, 4_500_000, bytes(12 * 4_500_000))
    many_keys = b"".join(string(f"k{i:07}") + value(U8, 1) for i in range(100))
    empty = bytes(8 * 5_000_000)
    for name, content, limit in (
        ("five million empty strings", RawGguf.smallest().set("x", array_of(STRING, 5_000_000, empty)).bytes(), 90e6),
        (
            "as many arrays",
            RawGguf.smallest().set("x", arrays).bytes(),
            150e6,
        ),
        ("as many tensors", u64(0).join((b"GGUF" + u32(3) + u64(70_000) + u64(0), bytes(24 * 70_000))), 10e6),
        ("too many keys", b"GGUF" + u32(3) + u64(0) + u64(5_000_000) + many_keys + bytes(13 * 5_000_000), 180e6),
    ):
        before = attempts.worst_peak
        attempts.worst_peak = 0
        message = attempts.attempt(content)
        assert message is not None
        assert "more than any model has" in message, f"{name}: {message}"
        assert attempts.worst_peak < limit
        attempts.worst_peak = before


def test_incomplete_headers_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"G", b"GGUF", b"GGUF\x03", b"GGUF" + u32(3), b"GGUF" + u32(3) + u64(0) + u64(0)):
        (tmp_path / "m.gguf").write_bytes(content)
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / "m.gguf")
