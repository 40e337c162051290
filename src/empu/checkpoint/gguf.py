"""GGUF, versions 2 and 3: header, key/values, tensor table, and the Llama configuration in them.

Layout after the specification in the ggml repository (docs/gguf.md). Nothing is allocated before the bytes that would
fill it are known to be there.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.checkpoint.base import Checkpoint, Provenance, StoredTensor
from empu.checkpoint.blocks import BY_GGML_ID, GGML_NAMES, BlockType
from empu.checkpoint.names import our_name
from empu.checkpoint.reading import Bytes, map_file, shown
from empu.config import LinearRopeScaling, ModelConfig, RopeScaling
from empu.errors import CheckpointError, ConfigError, UnsupportedError

MAGIC = b"GGUF"
MAX_DEPTH = 4
"""Nested arrays deeper than this have no use in any known file."""

_SCALARS: dict[int, np.dtype[Any]] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("<u1"),  # bool
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
_BOOL, _STRING, _ARRAY = 7, 8, 9


def is_mine(path: Path) -> bool:
    """Whether ``path`` is a file that begins as GGUF does."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


def open_gguf(path: Path) -> Checkpoint:
    """Open a file, reading its header only. Raises :class:`CheckpointError` for damage and
    :class:`UnsupportedError` for other architectures, versions and tensor types.
    """
    parsed = Parsed.read(path)
    config, tensors = _settle(parsed)
    return GgufCheckpoint(
        path=path,
        format="gguf",
        files=(path,),
        config=config,
        metadata=parsed.metadata,
        provenance=_provenance(parsed.metadata),
        data=parsed.data,
        places=tensors,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies."""

    shape: tuple[int, ...]
    type: BlockType
    start: int
    end: int


@dataclass
class GgufCheckpoint(Checkpoint):
    """An open file; unknown tensors keep their own names, so that the report can show them."""

    data: Bytes = field(default_factory=lambda: np.empty(0, np.uint8))
    places: dict[str, Place] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        return tuple(self.places)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._place(name).shape

    def tensor(self, name: str) -> StoredTensor:
        place = self._place(name)
        return StoredTensor(name, place.shape, place.type, self.data[place.start : place.end])

    def _place(self, name: str) -> Place:
        try:
            return self.places[name]
        except KeyError:
            raise CheckpointError(f"{self.path} has no tensor {shown(name)}.") from None


class _Cursor:
    """Reads forward through bytes that may lie about their lengths."""

    def __init__(self, data: Bytes, path: Path) -> None:
        self.data = data
        self.path = path
        self.at = 0

    def take(self, count: int, what: str) -> memoryview:
        if count > len(self.data) - self.at:
            raise CheckpointError(
                f"{self.path}: {what} at byte {self.at:,} needs {count:,} bytes and {len(self.data) - self.at:,} are "
                "left; the file is damaged or incomplete, so fetch it again."
            )
        view = self.data[self.at : self.at + count].data
        self.at += count
        return view

    def u32(self, what: str) -> int:
        return int(struct.unpack("<I", self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(struct.unpack("<Q", self.take(8, what))[0])

    def count(self, what: str, least_bytes: int) -> int:
        """A number of things of which each takes at least ``least_bytes`` of what is left."""
        start = self.at
        count = self.u64(what)
        if count * least_bytes > len(self.data) - self.at:
            raise CheckpointError(
                f"{self.path}: {what} at byte {start:,} says {count:,}, more than the file has room for; it is damaged."
            )
        return count

    def string(self, what: str) -> bytes:
        return bytes(self.take(self.count(f"the length of {what}", 1), what))

    def text(self, what: str) -> str:
        start = self.at
        try:
            return self.string(what).decode("utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.path}: {what} at byte {start:,} is not UTF-8 text.") from None

    def value(self, kind: int, key: str, depth: int = 0) -> Any:
        if kind in _SCALARS:
            dtype = _SCALARS[kind]
            item = np.frombuffer(self.take(dtype.itemsize, key), dtype=dtype)[0].item()
            return bool(item) if kind == _BOOL else item
        if kind == _STRING:
            return self.text(key)
        if kind != _ARRAY:
            raise CheckpointError(f"{self.path}: {key} has the unknown value type {kind} at byte {self.at:,}.")
        if depth >= MAX_DEPTH:
            raise CheckpointError(f"{self.path}: {key} at byte {self.at:,} nests arrays more than {MAX_DEPTH} deep.")
        inner = self.u32(key)
        if inner in _SCALARS:
            dtype = _SCALARS[inner]
            count = self.count(f"the length of {key}", dtype.itemsize)
            array = np.frombuffer(self.take(count * dtype.itemsize, key), dtype=dtype)
            return array.astype(np.bool_) if inner == _BOOL else array
        if inner == _STRING:
            return self._strings(self.count(f"the length of {key}", 8), key)
        return [self.value(inner, key, depth + 1) for _ in range(self.count(f"the length of {key}", 12))]

    def _strings(self, count: int, key: str) -> list[str]:
        data, at, end = self.data.data, self.at, len(self.data)
        length_at = struct.Struct("<Q").unpack_from
        result = []
        for i in range(count):
            if end - at < 8 or length_at(data, at)[0] > end - at - 8:
                raise CheckpointError(
                    f"{self.path}: element {i:,} of {key} at byte {at:,} does not fit the file; the file is damaged."
                )
            begin = at + 8
            at = begin + length_at(data, at)[0]
            try:
                result.append(str(data[begin:at], "utf-8"))
            except UnicodeDecodeError:
                raise CheckpointError(
                    f"{self.path}: element {i:,} of {key} at byte {begin:,} is not UTF-8 text."
                ) from None
        self.at = at
        return result


@dataclass(frozen=True, slots=True)
class Parsed:
    """The header of a file, held against the file's size, not yet against an architecture."""

    path: Path
    data: Bytes
    version: int
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Place]
    """By the names in the file."""

    @classmethod
    def read(cls, path: Path) -> Parsed:
        """Parse and check; tensors of a type that is not read raise :class:`UnsupportedError`."""
        data = map_file(path)
        cursor = _Cursor(data, path)
        if bytes(cursor.take(4, "the magic number")) != MAGIC:
            raise CheckpointError(f"{path} does not begin with GGUF.")
        version = cursor.u32("the version")
        if version not in (2, 3):
            swapped = version.to_bytes(4, "little")[::-1]
            if int.from_bytes(swapped, "little") in (2, 3):
                raise UnsupportedError(f"{path} is a big-endian GGUF file; Empu reads little-endian ones.")
            raise UnsupportedError(f"{path} is GGUF version {version}; Empu reads versions 2 and 3.")
        n_tensors = cursor.count("the number of tensors", 24)
        n_keys = cursor.count("the number of keys", 13)
        metadata: dict[str, Any] = {}
        for _ in range(n_keys):
            start = cursor.at
            key = cursor.text("a key")
            if len(key) > 65535 or key in metadata:
                raise CheckpointError(f"{path}: the key {shown(key)} at byte {start:,} is too long or there twice.")
            metadata[key] = cursor.value(cursor.u32(f"the type of {shown(key)}"), key)
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            raise CheckpointError(
                f"{path}: general.alignment is {shown(str(alignment))}; expected a power of two from 8 on."
            )
        table = [_table_row(cursor) for _ in range(n_tensors)]
        begin = -(-cursor.at // alignment) * alignment
        return cls(path, data, version, metadata, _places(path, table, begin, len(data), alignment))


def _table_row(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    start = cursor.at
    name = cursor.text("a tensor's name")
    where = f"{cursor.path}: tensor {shown(name)} at byte {start:,}"
    n_dims = cursor.u32(f"the dimensions of {shown(name)}")
    if not 1 <= n_dims <= 4:
        raise CheckpointError(f"{where} has {n_dims:,} dimensions; expected 1 to 4.")
    dims = struct.unpack(f"<{n_dims}Q", cursor.take(8 * n_dims, f"the dimensions of {shown(name)}"))
    if not all(1 <= dim <= 1 << 40 for dim in dims):
        raise CheckpointError(f"{where} has the dimensions {dims}, which no tensor has.")
    kind = cursor.u32(f"the type of {shown(name)}")
    return name, tuple(reversed(dims)), kind, cursor.u64(f"the offset of {shown(name)}")


def _places(
    path: Path, table: list[tuple[str, tuple[int, ...], int, int]], begin: int, size: int, alignment: int
) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for name, shape, kind, offset in table:
        where = f"{path}: tensor {shown(name)}"
        if name in places:
            raise CheckpointError(f"{where} is there twice.")
        if kind not in BY_GGML_ID:
            known = GGML_NAMES.get(kind, f"number {kind}")
            raise UnsupportedError(f"{where} has the type {known}, which Empu does not read; use another quantisation.")
        type_ = BY_GGML_ID[kind]
        if shape[-1] % type_.block_values:
            raise CheckpointError(
                f"{where} has rows of {shape[-1]:,} values, no multiple of {type_.block_values} as {type_.name} needs."
            )
        values = 1
        for dim in shape:
            values *= dim
        start = begin + offset
        end = start + values // type_.block_values * type_.block_bytes
        if offset % alignment:
            raise CheckpointError(f"{where} begins at offset {offset:,}, no multiple of the alignment {alignment}.")
        if end > size:
            raise CheckpointError(
                f"{where} ends at byte {end:,} and the file has {size:,}; its download was probably cut off, so fetch "
                "it again."
            )
        places[name] = Place(shape, type_, start, end)
    ordered = sorted(places.items(), key=lambda item: item[1].start)
    for (one, before), (two, after) in itertools.pairwise(ordered):
        if after.start < before.end:
            raise CheckpointError(f"{path}: the tensors {shown(one)} and {shown(two)} overlap.")
    return places


def _settle(parsed: Parsed) -> tuple[ModelConfig, dict[str, Place]]:
    """The configuration, and the tensors by our names without the one that only repeats the configuration."""
    tensors: dict[str, Place] = {}
    factors: Place | None = None
    for foreign, place in parsed.tensors.items():
        if foreign == "rope_freqs.weight":
            factors = place
            continue
        found = our_name(foreign, "gguf")
        tensors[found[0] if found is not None else foreign] = place
    config = _config(parsed, tensors)
    if factors is not None:
        config = config.replace(rope_scaling=_rope_scaling(parsed, factors, config))
    return config, tensors


def _config(parsed: Parsed, tensors: Mapping[str, Place]) -> ModelConfig:
    metadata, where = parsed.metadata, str(parsed.path)
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise UnsupportedError(
            f"{where} holds the architecture {shown(str(architecture))}; Empu opens the Llama family (llama)."
        )

    def integer(key: str, default: int | None = None) -> int:
        value = metadata.get(f"llama.{key}", default)
        if type(value) is not int:
            state = "missing" if value is None else "no whole number"
            raise CheckpointError(
                f"{where}: llama.{key} is {state}; the shape of the model cannot be known without it."
            )
        return value

    def number(key: str, default: float) -> float:
        value = metadata.get(f"llama.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"{where}: llama.{key} is no number.")
        return float(value)

    if integer("expert_count", 0):
        raise UnsupportedError(f"{where} is a mixture of experts; Empu opens dense Llama models.")
    heads, dim = integer("attention.head_count"), integer("embedding_length")
    head_dim = integer("attention.key_length", integer("rope.dimension_count", dim // max(1, heads)))
    if integer("attention.value_length", head_dim) != head_dim or integer("rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedError(
            f"{where}: keys, values and rotary embedding differ in length, unlike in any Llama model."
        )
    embedding = tensors.get("embedding.weight")
    vocabulary = metadata.get("llama.vocab_size", embedding.shape[0] if embedding is not None else None)
    window = integer("attention.sliding_window", 0)
    try:
        return ModelConfig(
            n_layers=integer("block_count"),
            dim=dim,
            n_heads=heads,
            n_kv_heads=integer("attention.head_count_kv", heads),
            ffn_dim=integer("feed_forward_length"),
            vocab_size=vocabulary if isinstance(vocabulary, int) else 0,
            head_dim=head_dim,
            context_length=integer("context_length"),
            norm_eps=number("attention.layer_norm_rms_epsilon", 1e-5),
            rope_theta=number("rope.freq_base", 10_000.0),
            rope_scaling=_linear(metadata, where, number),
            tie_embeddings="output.weight" not in tensors,
            sliding_window=window or None,
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _linear(metadata: Mapping[str, Any], where: str, number: Any) -> LinearRopeScaling | None:
    kind = metadata.get("llama.rope.scaling.type", "none")
    factor = number("rope.scaling.factor", number("rope.scale_linear", 1.0))
    if kind not in ("none", "linear"):
        raise UnsupportedError(
            f"{where} scales its rotary embedding by {shown(str(kind))}, which Empu does not compute."
        )
    return LinearRopeScaling(factor) if factor not in (0.0, 1.0) else None


def rope_factors(config: ModelConfig, scaling: RopeScaling) -> npt.NDArray[np.float32]:
    """(head_dim / 2,): what Llama 3.1's scaling divides each frequency by; a GGUF file stores it so."""
    frequencies = config.rope_theta ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    wavelengths = 2 * np.pi / frequencies
    low = scaling.original_context / scaling.low_freq_factor
    high = scaling.original_context / scaling.high_freq_factor
    share = (scaling.original_context / wavelengths - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    between = 1 / ((1 - share) / scaling.factor + share)
    factors = np.where(wavelengths < high, 1.0, np.where(wavelengths > low, scaling.factor, between))
    return factors.astype(np.float32)


def _rope_scaling(parsed: Parsed, place: Place, config: ModelConfig) -> RopeScaling:
    """The scaling whose factors a file holds. Its largest factor is ``factor``; the rest must follow from it."""
    stored = place.type.unpack(parsed.data[place.start : place.end])
    where = f"{parsed.path}: rope_freqs.weight"
    if place.shape != (config.head_dim // 2,) or config.rope_scaling is not None:
        raise CheckpointError(f"{where} does not fit the configuration.")
    original = parsed.metadata.get("llama.rope.scaling.original_context_length", 8192)
    try:
        scaling = RopeScaling(factor=float(stored.max()), original_context=int(original))
    except (ConfigError, ValueError, OverflowError, TypeError):
        raise CheckpointError(f"{where} holds no usable factors.") from None
    if not np.allclose(rope_factors(config, scaling), stored, rtol=1e-3, atol=0):
        raise UnsupportedError(f"{where} holds factors that are not Llama 3.1's; Empu does not compute these.")
    return scaling


def _provenance(metadata: Mapping[str, Any]) -> Provenance:
    def text(*keys: str) -> str | None:
        values = (metadata.get(f"general.{key}") for key in keys)
        return next((value[:2000] for value in values if isinstance(value, str) and value), None)

    def listed(kind: str, *parts: str) -> tuple[str, ...]:
        count = metadata.get(f"general.{kind}.count", 0)
        found = (text(*(f"{kind}.{i}.{part}" for part in parts)) for i in range(min(int(count), 64) if count else 0))
        return tuple(value for value in found if value)

    datasets = metadata.get("general.datasets")
    named = listed("dataset", "repo_url", "name") or tuple(
        value for value in (datasets if isinstance(datasets, list) else []) if isinstance(value, str)
    )
    licence = text("license")
    if licence == "other":
        licence = text("license.name") or licence
    return Provenance(
        name=text("name", "basename"),
        licence=licence,
        source=text(
            "source.url", "source.repo_url", "repo_url", "url", "source.huggingface.repository", "organization"
        ),
        base_models=listed("base_model", "repo_url", "name"),
        training_data=f"data sets named in the file: {', '.join(named)}" if named else "not disclosed",
    )
