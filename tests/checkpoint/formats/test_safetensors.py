"""safetensors files: equal to the reference library on valid files, never laxer on invalid ones."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors
import safetensors.numpy

from empu.checkpoint.block_types import BF16, F16, F32
from empu.checkpoint.formats.safetensors import (
    DTYPE_BYTES,
    PendingTensor,
    parse_header,
    read_safetensors,
    write_safetensors,
)
from empu.errors import CheckpointError, EmpuError, UnsupportedError


def frame(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def make_file(header: object, data: bytes = b"") -> bytes:
    return frame(json.dumps(header).encode(), data)


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def parse(file: bytes) -> dict[str, Any]:
    entries, _ = parse_header(np.frombuffer(file, dtype=np.uint8), "model.safetensors")
    return dict(entries)


def reference(file: bytes) -> dict[str, dict[str, Any]] | None:
    """Return the tensors that the reference library reads; ``None`` if it refuses the file."""
    try:
        return dict(safetensors.deserialize(file))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError:
        return None


def reference_accepts(file: bytes) -> bool:
    return reference(file) is not None


def test_reading_equals_the_reference_library(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays: dict[str, npt.NDArray[Any]] = {
        "matrix": rng.standard_normal((3, 5)).astype(np.float32),
        "half": rng.standard_normal((2, 2)).astype(np.float16),
        "scalar": np.array(7.0, dtype=np.float32),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "nama/ünïcode 名": np.arange(3, dtype=np.int64),
    }
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt", "note": "halo"})
    file = read_safetensors(path)
    assert file.metadata == {"format": "pt", "note": "halo"}
    assert set(file.entries) == set(arrays)
    for name, array in arrays.items():
        assert file.entries[name].shape == array.shape
        assert file.bytes_of(name).tobytes() == array.tobytes()
    with pytest.raises(UnsupportedError, match=r"'nama/ünïcode 名' at byte .* type I64.*F32, F16, BF16"):
        file.type_of("nama/ünïcode 名")


def test_the_reference_library_reads_written_files(tmp_path: Path) -> None:
    values = np.random.default_rng(2).standard_normal((4, 6)).astype(np.float32)
    half = values.astype(np.float16)
    tensors = [
        PendingTensor("b", F16, (4, 6), lambda: half.view(np.uint8).reshape(-1)),
        PendingTensor("a", F32, (4, 6), lambda: values.view(np.uint8).reshape(-1)),
        PendingTensor("c", BF16, (2,), lambda: np.array([0x3F80, 0x4000], dtype="<u2").view(np.uint8)),
    ]
    path = tmp_path / "m.safetensors"
    write_safetensors(path, tensors, {"format": "pt"})
    with safetensors.safe_open(path, framework="np") as opened:
        assert opened.metadata() == {"format": "pt"}
        assert np.array_equal(opened.get_tensor("a"), values)
        assert np.array_equal(opened.get_tensor("b"), half)
    ours = read_safetensors(path)
    assert list(ours.entries) == ["a", "b", "c"], "wider types come first"
    assert all(entry.start % DTYPE_BYTES[entry.dtype] == 0 for entry in ours.entries.values())
    assert path.stat().st_mode & 0o044, "readable by others as the umask allows"


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="a has 3 bytes, expected 8"):
        write_safetensors(path, [PendingTensor("a", F32, (2,), lambda: np.zeros(3, dtype=np.uint8))])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_safetensors(tmp_path / "none" / "m.safetensors", [])


@pytest.mark.parametrize("duplicate", ["a", "__metadata__"])
def test_duplicate_names_are_not_written(tmp_path: Path, duplicate: str) -> None:
    tensors = [PendingTensor(name, F32, (0,), lambda: np.zeros(0, dtype=np.uint8)) for name in ("a", duplicate)]
    with pytest.raises(ValueError, match="two tensors"):
        write_safetensors(tmp_path / "m.safetensors", tensors)


INVALID_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "header length at byte 0"),
    "seven_bytes": (b"\2\0\0\0\0\0\0", "header length at byte 0"),
    "length_0": (frame(b"", b""), "byte 8 does not begin"),
    "length_past_end": (struct.pack("<Q", 3) + b"{}", "header length at byte 0 is 3"),
    "length_2_31": (struct.pack("<Q", 1 << 31) + b"{}", "2,147,483,648"),
    "length_2_32": (struct.pack("<Q", 1 << 32) + b"{}", "4,294,967,296"),
    "length_2_63": (struct.pack("<Q", 1 << 63) + b"{}", "header length"),
    "length_max": (struct.pack("<Q", (1 << 64) - 1) + b"{}", "header length"),
    "length_max_minus_7_wraps": (struct.pack("<Q", (1 << 64) - 7) + b"{}", "header length"),
    "leading_space": (frame(b" {}", b""), "does not begin"),
    "byte_order_mark": (frame(b"\xef\xbb\xbf{}", b""), "does not begin"),
    "array": (frame(b"[]", b""), "does not begin"),
    "two_documents": (frame(b"{}{}", b""), "not usable JSON"),
    "nul_padding": (frame(b"{}\0", b""), "not usable JSON"),
    "not_utf8": (frame(b'{"\xff":1}', b""), "byte 2 is not UTF-8"),
    "utf8_surrogate": (frame(b'{"\xed\xa0\x80":1}', b""), "not UTF-8"),
    "half_surrogate": (frame(rb'{"__metadata__":{"a":"\ud800"}}', b""), "surrogate"),
    "control_character": (frame(b'{"\x01":1}', b""), "not usable JSON"),
    "nan": (frame(b'{"a":NaN}', b""), "NaN is not"),
    "infinity": (frame(b'{"a":-Infinity}', b""), "-Infinity is not"),
    "deep_arrays": (frame(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b""), "nested more than 64 levels deep"),
    "deep_objects": (frame(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b""), "nested more than 64 levels deep"),
    "five_thousand_digits": (frame(b'{"a":' + b"9" * 5000 + b"}", b""), "number is too long"),
    "duplicate_tensor": (
        frame(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
        "'a' occurs twice",
    ),
    "duplicate_by_escape": (
        frame(rb'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"\u0061":{}}', b""),
        "'a' occurs twice",
    ),
    "duplicate_field": (
        frame(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "'dtype' occurs twice",
    ),
    "duplicate_metadata": (frame(b'{"__metadata__":{},"__metadata__":{}}', b""), "occurs twice"),
    "metadata_list": (make_file({"__metadata__": []}), "__metadata__ is a list"),
    "metadata_number": (make_file({"__metadata__": {"a": 1}}), "__metadata__ 'a' is not a string"),
    "metadata_null": (make_file({"__metadata__": {"a": None}}), "__metadata__ 'a' is not a string"),
    "tensor_is_list": (make_file({"a": ["F32", [2], [0, 8]]}, bytes(8)), "'a' needs exactly"),
    "field_missing": (make_file({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "'a' needs exactly"),
    "field_unknown": (make_file({"a": {**entry(), "strides": [1]}}, bytes(8)), "'a' needs exactly"),
    "dtype_unknown": (make_file({"a": entry("F33")}, bytes(8)), "tensor 'a': its dtype is 'F33'"),
    "dtype_lower_case": (make_file({"a": entry("f32")}, bytes(8)), "dtype is 'f32'"),
    "dtype_four_bits": (make_file({"a": entry("F4", [16])}, bytes(8)), "dtype is 'F4'"),
    "dtype_number": (make_file({"a": {**entry(), "dtype": 1}}, bytes(8)), "dtype is a whole number"),
    "dtype_list": (make_file({"a": {**entry(), "dtype": []}}, bytes(8)), "dtype is a list"),
    "shape_number": (make_file({"a": entry(shape=2)}, bytes(8)), "shape is not a list"),
    "shape_float": (make_file({"a": entry(shape=[2.0])}, bytes(8)), "shape is not a list"),
    "shape_bool": (make_file({"a": entry(shape=[True, 2])}, bytes(8)), "shape is not a list"),
    "shape_negative": (make_file({"a": entry(shape=[-1, -2])}, bytes(8)), "shape is not a list"),
    "shape_2_64": (make_file({"a": entry(shape=[1 << 64, 0], offsets=[0, 0])}), "shape is not a list"),
    "shape_65_dimensions": (make_file({"a": entry(shape=[1] * 64 + [2])}, bytes(8)), "at most 64"),
    "shape_wraps_to_2": (make_file({"a": entry(shape=[(1 << 63) + 1, 2])}, bytes(8)), "does not fill"),
    "shape_wraps_then_zero": (make_file({"a": entry(shape=[1 << 63, 2, 0], offsets=[0, 0])}), "does not fill"),
    "bytes_wrap_to_0": (make_file({"a": entry(shape=[1 << 62], offsets=[0, 0])}), "does not fill"),
    "bits_wrap_to_0": (make_file({"a": entry(shape=[1 << 59], offsets=[0, 0])}), "does not fill"),
    "minus_zero": (frame(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}}', bytes(8)), "data_offsets"),
    "offsets_three": (make_file({"a": entry(offsets=[0, 8, 8])}, bytes(8)), "data_offsets"),
    "offsets_one": (make_file({"a": entry(offsets=[8])}, bytes(8)), "data_offsets"),
    "offsets_float": (make_file({"a": entry(offsets=[0, 8.0])}, bytes(8)), "data_offsets"),
    "offsets_exponent": (
        frame(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8e0]}}', bytes(8)),
        "data_offsets",
    ),
    "offsets_swapped": (make_file({"a": entry(offsets=[8, 0])}, bytes(8)), "does not fill the bytes 8 to 0"),
    "offsets_short": (make_file({"a": entry(offsets=[0, 4])}, bytes(8)), "does not fill the bytes 0 to 4"),
    "offsets_past_end": (make_file({"a": entry(shape=[4], offsets=[0, 16])}, bytes(8)), "cut off"),
    "offset_2_64_minus_8": (make_file({"a": entry(offsets=[(1 << 64) - 8, (1 << 64) - 0x10])}, bytes(8)), "not fill"),
    "hole_at_start": (make_file({"a": entry(offsets=[4, 12])}, bytes(12)), "'a' at byte .* leaves a gap"),
    "hole_between": (
        make_file({"a": entry(), "b": entry(offsets=[12, 20])}, bytes(20)),
        "'b' at byte .* leaves a gap",
    ),
    "overlap": (make_file({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)), "'b' at byte .* overlaps"),
    "same_bytes": (make_file({"a": entry(), "b": entry()}, bytes(8)), "overlaps"),
    "trailing_data": (make_file({"a": entry()}, bytes(9)), "bytes that belong to no tensor"),
    "no_tensors_but_data": (make_file({}, bytes(1)), "bytes that belong to no tensor"),
    "data_cut": (make_file({"a": entry()}, bytes(7)), "cut off"),
}
"""name -> (file, pattern of the error message)"""


@pytest.mark.parametrize("name", INVALID_FILES)
def test_an_invalid_file_is_refused_with_its_reason(name: str) -> None:
    file, message = INVALID_FILES[name]
    with pytest.raises(CheckpointError, match=message):
        parse(file)


def test_the_reference_accepts_only_these_invalid_files() -> None:
    """Each case in which we are stricter has its reason here."""
    stricter = {name for name, (file, _) in INVALID_FILES.items() if reference_accepts(file)}
    assert stricter == {
        "duplicate_tensor",  # it keeps one of the two
        "leading_space",  # the format says that a header begins with a brace
        "tensor_is_list",  # its JSON reader takes fields by position as well
        "field_unknown",  # it ignores them
        "dtype_four_bits",  # no supported model is stored this way
        "shape_65_dimensions",  # no array library has so many
    }


def test_every_truncation_is_refused() -> None:
    whole = make_file({"a": entry(), "b": entry("BF16", [3], [8, 14])}, bytes(14))
    assert len(parse(whole)) == 2
    for length in range(len(whole)):
        with pytest.raises(CheckpointError):
            parse(whole[:length])


def test_control_characters_in_names_are_escaped() -> None:
    file = make_file({"\x1b[2Jevil" * 1000: entry(offsets=[0, 4])}, bytes(8))
    with pytest.raises(CheckpointError) as caught:
        parse(file)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


MUTATIONS = 50_000

NUMBERS = [b"0", b"1", b"2", b"8", b"-0", b"-1", b"1.0", b"1e0", b"true", b"null", b"[]", b'"1"', b"00", b"01", b"+1"]
NUMBERS += [str(2**power + offset).encode() for power in (8, 31, 32, 53, 61, 62, 63, 64) for offset in (-1, 0, 1)]
PIECES = [b'"F32"', b'"F16"', b'"BF16"', b'"F64"', b'"I8"', b'"U4"', b'"shape"', b'"dtype"', b'"data_offsets"']
PIECES += [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\t",
    b"\n",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\\u0061",
    b"\\ud800",
]
PIECES += [
    b'"__metadata__":{"a":"b"},',
    b'"__metadata__":null,',
    b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},',
]


def mutate(rng: np.random.Generator, file: bytes) -> bytes:
    """Apply one to three small changes. Most keep the frame valid, so that the inner checks are reached."""
    length = int.from_bytes(file[:8], "little")
    header, data = bytearray(file[8 : 8 + length]), bytearray(file[8 + length :])
    digits = [i for i, byte in enumerate(header) if chr(byte).isdigit()]
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(header)))
        match int(rng.integers(0, 9)):
            case 0:
                header[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                header[at : at + int(rng.integers(1, 9))] = b""
            case 2:
                header[at:at] = PIECES[int(rng.integers(0, len(PIECES)))]
            case 3:
                start = int(rng.integers(0, len(header)))
                header[at:at] = header[start : start + int(rng.integers(1, 60))]
            case 4 | 5 if digits:
                digit = digits[int(rng.integers(0, len(digits)))]
                header[digit : digit + 1] = NUMBERS[int(rng.integers(0, len(NUMBERS)))]
            case 6:
                header += b" " * int(rng.integers(0, 9))
            case 7:
                data += bytes(int(rng.integers(0, 3)) * 2)
            case _ if header:
                del data[len(data) - int(rng.integers(0, 5)) * 2 :]
        if not header:
            break
    prefix = len(header) if rng.random() < 0.95 else int(rng.integers(0, 1 << 63)) >> int(rng.integers(0, 63))
    return struct.pack("<Q", prefix) + bytes(header) + bytes(data)


def seeds() -> list[bytes]:
    return [
        make_file({"a": entry()}, bytes(8)),
        make_file(
            {"__metadata__": {"format": "pt"}, "a": entry("F16", [2, 2]), "b": entry("BF16", [], [8, 10])}, bytes(10)
        ),
        make_file(
            {"b": entry("U8", [1, 0, 3], [4, 4]), "c": entry("I8", [4], [0, 4]), "d": entry("F64", [1], [4, 12])},
            bytes(12),
        ),
        make_file({}),
    ]


def test_never_laxer_than_the_reference_on_mutated_headers() -> None:
    rng = np.random.default_rng(20260101)
    sources = seeds()
    assert all(parse(file) is not None and reference_accepts(file) for file in sources)
    accepted = reference_only = 0
    for number in range(MUTATIONS):
        file = mutate(rng, sources[number % len(sources)])
        try:
            entries = parse(file)
        except EmpuError:
            reference_only += reference_accepts(file)
            continue
        accepted += 1
        theirs = reference(file)
        assert theirs is not None, f"the reference refuses {file!r}"
        assert {name: (e.dtype, list(e.shape)) for name, e in entries.items()} == {
            name: (value["dtype"], value["shape"]) for name, value in theirs.items()
        }, file
        assert all(file[e.start : e.end] == bytes(theirs[name]["data"]) for name, e in entries.items()), file
    print(f"{MUTATIONS:,} mutated headers: {accepted:,} accepted by both, {reference_only:,} by the reference only")
    assert accepted > MUTATIONS // 20, "the mutations must leave enough good files for the test to mean something"
