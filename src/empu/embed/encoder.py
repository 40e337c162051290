"""A BERT encoder in numpy: text -> unit vector, by mean pooling over the tokens.

The model folder has the files of Hugging Face and sentence-transformers: ``config.json``, ``tokenizer.json`` and
``model.safetensors`` or ``model.gguf``. Each text is encoded alone, so its vector does not depend on its batch.
Shape letters: T tokens, H heads, D width.

Sources: Devlin et al. 2018 (arXiv:1810.04805); Reimers and Gurevych 2019 (arXiv:1908.10084) for the pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from empu.embed.weights import EncoderWeights, open_weights, rows, tensor, weights_path
from empu.errors import CheckpointError, PromptTooLongError, UnsupportedError, UsageError
from empu.system.files import read_json_object
from empu.system.json_fields import get_float, required_int

FloatArray = npt.NDArray[np.float32]
LayerWeights = dict[str, FloatArray]

_WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
_EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of a BERT encoder."""

    layers: int
    heads: int
    dim: int
    norm_eps: float
    context_length: int
    query_prefix: str = ""
    passage_prefix: str = ""
    """Text that stands before a query or a passage, as the encoder was trained (E5: ``query: ``)."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector (D,) of one text, and the number of tokens that were read for it."""

    vector: FloatArray
    num_tokens: int


class Encoder:
    """One open encoder. Not thread-safe: one thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Raises :class:`CheckpointError` or :class:`UnsupportedError` where the folder holds no BERT encoder."""
        self.config = _read_config(folder)
        self._weights: EncoderWeights = open_weights(folder)
        self.size_bytes = weights_path(folder).stat().st_size
        self._tokenizer = _load_tokenizer(folder)
        self.vocab_size = self._weights.stored(_WORD_EMBEDDINGS)[1][0]
        self._position_embeddings, self._type_embeddings = (
            self._tensor(f"embeddings.{kind}_embeddings.weight") for kind in ("position", "token_type")
        )
        self._embedding_norm = self._tensor("embeddings.LayerNorm.weight"), self._tensor("embeddings.LayerNorm.bias")
        self._layers = [self._layer_weights(f"encoder.layer.{i}") for i in range(self.config.layers)]

    def embed(self, texts: Sequence[str]) -> list[Embedding]:
        """Return a vector of length one for each text. Raises :class:`PromptTooLongError`."""
        return self.embed_ids([self.encode(text) for text in texts])

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``, with the special tokens around them."""
        return list(self._tokenizer.encode(text).ids)

    def embed_ids(self, batch: Sequence[Sequence[int]]) -> list[Embedding]:
        """Like :meth:`embed`, from token ids that include the special tokens."""
        for ids in batch:
            if not ids:
                raise UsageError("A text without any token has no vector.")
            if len(ids) > self.config.context_length:
                raise PromptTooLongError(len(ids), self.config.context_length, "shorten it")
            if any(token >= self.vocab_size for token in ids):
                raise UsageError(f"A token id is outside the vocabulary of {self.vocab_size:,} tokens.")
        return [Embedding(self._forward(np.asarray(ids)), len(ids)) for ids in batch]

    def _forward(self, ids: npt.NDArray[np.int64]) -> FloatArray:
        """(T,) token ids -> (D,) unit vector."""
        words_td = rows(self._weights, _WORD_EMBEDDINGS, ids)
        x_td = words_td + self._position_embeddings[: len(ids)] + self._type_embeddings[0]
        x_td = _layer_norm(x_td, *self._embedding_norm, self.config.norm_eps)
        for layer in self._layers:
            x_td = self._block(layer, x_td)
        mean_d = x_td.mean(axis=0)
        return np.asarray(mean_d / max(float(np.linalg.norm(mean_d)), 1e-12), dtype=np.float32)

    def _block(self, layer: LayerWeights, x_td: FloatArray) -> FloatArray:
        """One post-norm layer: self-attention, then feed-forward."""
        attention = _linear(layer, "attention.output.dense", self._attention(layer, x_td))
        x_td = self._norm(layer, "attention.output", x_td + attention)
        hidden = _gelu(_linear(layer, "intermediate.dense", x_td))
        return self._norm(layer, "output", x_td + _linear(layer, "output.dense", hidden))

    def _attention(self, layer: LayerWeights, x_td: FloatArray) -> FloatArray:
        """Bidirectional attention (T, D), before the output projection."""
        tokens, dim = x_td.shape
        head_dim = dim // self.config.heads
        query, key, value = (
            _linear(layer, f"attention.self.{name}", x_td)
            .reshape(tokens, self.config.heads, head_dim)
            .transpose(1, 0, 2)  # (H, T, D/H)
            for name in ("query", "key", "value")
        )
        scores_htt = query @ key.transpose(0, 2, 1) / np.float32(head_dim**0.5)
        weights_htt = np.exp(scores_htt - scores_htt.max(axis=-1, keepdims=True))
        weights_htt /= weights_htt.sum(axis=-1, keepdims=True)
        return np.asarray((weights_htt @ value).transpose(1, 0, 2).reshape(tokens, dim))

    def _norm(self, layer: LayerWeights, name: str, x_td: FloatArray) -> FloatArray:
        weight, bias = layer[f"{name}.LayerNorm.weight"], layer[f"{name}.LayerNorm.bias"]
        return _layer_norm(x_td, weight, bias, self.config.norm_eps)

    def _layer_weights(self, prefix: str) -> LayerWeights:
        modules = [f"attention.self.{name}" for name in ("query", "key", "value")]
        modules += ["attention.output.dense", "intermediate.dense", "output.dense"]
        modules += ["attention.output.LayerNorm", "output.LayerNorm"]
        names = [f"{module}.{parameter}" for module in modules for parameter in ("weight", "bias")]
        return {name: self._tensor(f"{prefix}.{name}") for name in names}

    def _tensor(self, name: str) -> FloatArray:
        return tensor(self._weights, name)


def _read_config(folder: Path) -> EncoderConfig:
    path = folder / "config.json"
    values = read_json_object(path)
    for key, expected in _EXPECTED.items():
        if values.get(key, expected) != expected:
            raise UnsupportedError(f"{folder}: {key} is {values[key]!r}; embeddings support only {expected!r}.")
    config = EncoderConfig(
        layers=required_int(values, "num_hidden_layers", str(path)),
        heads=required_int(values, "num_attention_heads", str(path)),
        dim=required_int(values, "hidden_size", str(path)),
        norm_eps=get_float(values, "layer_norm_eps", str(path)),
        # Not max_seq_length of sentence_bert_config.json, where sentence-transformers cuts a text without saying so.
        context_length=required_int(values, "max_position_embeddings", str(path)),
    )
    if config.heads < 1 or config.dim % config.heads or config.layers < 1 or config.context_length < 2:
        raise CheckpointError(f"{path} describes an impossible shape: {config}.")
    return config


def _load_tokenizer(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path} cannot be read as a tokenizer ({error}).") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _linear(layer: LayerWeights, name: str, x: FloatArray) -> FloatArray:
    return np.asarray(x @ layer[f"{name}.weight"].T + layer[f"{name}.bias"], dtype=np.float32)


def _layer_norm(x: FloatArray, weight: FloatArray, bias: FloatArray, eps: float) -> FloatArray:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + np.float32(eps)) * weight + bias, dtype=np.float32)


def _gelu(x: FloatArray) -> FloatArray:
    """x Phi(x), with the error function of Abramowitz and Stegun 7.1.26 (error at most 1.5e-7)."""
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - polynomial * np.exp(-z * z))
    return np.asarray(0.5 * x * (1 + erf), dtype=np.float32)
