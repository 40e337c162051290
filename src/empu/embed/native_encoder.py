"""The forward pass of BERT on the compiled engine: integer products, no padding, the same bits in any batch.

Matrices of GGUF's 4-bit and 8-bit types are kept exactly, others are rounded to 8 bits in groups of 32 columns. Word
embeddings stay in the mapped file. ``native/src/encoder/`` has the forward pass.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from empu.embed.bert_config import EncoderConfig
from empu.embed.weights import WORD_EMBEDDINGS, EncoderWeights, tensor
from empu.errors import CheckpointError
from empu.system.cpu import available_cpus

try:
    from empu.engine import _native
except ImportError:  # no compiled extension for this platform
    _native = None  # type: ignore[assignment]

FloatArray = npt.NDArray[np.float32]

_GROUP_SIZE = 32
_WORD_TYPES = ("F32", "F16", "Q8_0", "Q4_0")
_EXACT_TYPES = ("Q4_0", "Q4_1", "Q4_K", "Q8_0")
_UP = "intermediate.dense"
_MATRICES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "up": _UP,
    "down": "output.dense",
}
_VECTORS = {
    "query_bias": "attention.self.query.bias",
    "value_bias": "attention.self.value.bias",
    "output_bias": "attention.output.dense.bias",
    "up_bias": "intermediate.dense.bias",
    "down_bias": "output.dense.bias",
    "attention_norm": "attention.output.LayerNorm.weight",
    "attention_norm_bias": "attention.output.LayerNorm.bias",
    "output_norm": "output.LayerNorm.weight",
    "output_norm_bias": "output.LayerNorm.bias",
}


def is_supported(config: EncoderConfig, weights: EncoderWeights) -> bool:
    """Whether the extension is compiled and its kernels support the encoder's shape and word embeddings."""
    if importlib.util.find_spec("empu.engine._native") is None:
        return False
    ffn_dim = weights.stored(f"encoder.layer.0.{_UP}.weight")[1][0]
    return (
        config.dim % _GROUP_SIZE == 0
        and ffn_dim % _GROUP_SIZE == 0
        and config.dim // config.heads % 2 == 0
        and weights.stored(WORD_EMBEDDINGS)[0].name in _WORD_TYPES
    )


class NativeEncoder:
    """Runs an encoder's packed weights."""

    def __init__(
        self,
        config: EncoderConfig,
        weights: EncoderWeights,
        *,
        threads: int | None = None,
        instruction_set: str = "",
    ) -> None:
        """Pack ``weights``. ``instruction_set`` as in :class:`NativeBackend`. Raises :class:`CheckpointError`."""
        self.config = config
        self._weights = weights
        kind, (vocab_size, _), words = weights.stored(WORD_EMBEDDINGS)
        with _translate_errors(weights):
            self._encoder = _native.Encoder(
                layers=config.layers,
                dim=config.dim,
                heads=config.heads,
                ffn_dim=weights.stored(f"encoder.layer.0.{_UP}.weight")[1][0],
                vocab_size=vocab_size,
                positions=config.context_length,
                norm_eps=config.norm_eps,
                threads=threads or min(available_cpus(), _native.max_threads),
                instruction_set=instruction_set,
            )
            self._encoder.set_word_embeddings(kind.name, words)
            positions = tensor(weights, "embeddings.position_embeddings.weight")[: config.context_length]
            positions = positions + tensor(weights, "embeddings.token_type_embeddings.weight")[0]
            self._encoder.set_position_embeddings(np.ascontiguousarray(positions).reshape(-1))
            self._set_vector(-1, "embedding_norm", "embeddings.LayerNorm.weight")
            self._set_vector(-1, "embedding_norm_bias", "embeddings.LayerNorm.bias")
            for layer in range(config.layers):
                for name, stored_name in _MATRICES.items():
                    self._set_matrix(layer, name, f"encoder.layer.{layer}.{stored_name}.weight")
                for name, stored_name in _VECTORS.items():
                    self._set_vector(layer, name, f"encoder.layer.{layer}.{stored_name}")
        self.threads = self._encoder.threads
        self.instruction_set = self._encoder.instruction_set

    def embed_ids(self, batch: Sequence[Sequence[int]]) -> FloatArray:
        """Unit vectors (texts, D)."""
        lengths = np.fromiter(map(len, batch), np.int32, len(batch))
        ids = np.fromiter((token for text in batch for token in text), np.int32, int(lengths.sum()))
        vectors = np.empty((len(batch), self.config.dim), np.float32)
        with _translate_errors(self._weights):
            self._encoder.embed(ids, lengths, vectors)
        return vectors

    def _set_matrix(self, layer: int, name: str, stored_name: str) -> None:
        kind, _, data = self._weights.stored(stored_name)
        if kind.name in _EXACT_TYPES:
            self._encoder.set_matrix(layer, name, kind.name, data)
        else:
            self._encoder.set_matrix(layer, name, "F32", kind.unpack(data).view(np.uint8))

    def _set_vector(self, layer: int, name: str, stored_name: str) -> None:
        self._encoder.set_vector(layer, name, tensor(self._weights, stored_name).reshape(-1))


@contextmanager
def _translate_errors(weights: EncoderWeights) -> Iterator[None]:
    try:
        yield
    except _native.Error as error:
        raise CheckpointError(f"{weights.path}: {error}") from None
