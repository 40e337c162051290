"""Text encoders: text -> unit vector, by BERT and mean pooling over the tokens.

The model folder has the files of Hugging Face and sentence-transformers: ``config.json``, ``tokenizer.json`` and
``model.safetensors`` or ``model.gguf``. A text's vector does not depend on its batch or on the number of threads.

Sources: Devlin et al. 2018 (arXiv:1810.04805); Reimers and Gurevych 2019 (arXiv:1908.10084) for the pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from empu.embed.bert_config import read_config
from empu.embed.native_encoder import NativeEncoder, is_supported
from empu.embed.numpy_encoder import NumpyEncoder
from empu.embed.weights import WORD_EMBEDDINGS, open_weights, weights_path
from empu.errors import CheckpointError, PromptTooLongError, UsageError

FloatArray = npt.NDArray[np.float32]
Backend = Literal["native", "numpy"]


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector (D,) of one text, and the number of tokens that were read for it."""

    vector: FloatArray
    num_tokens: int


class EncoderBackend(Protocol):
    """The forward pass."""

    def embed_ids(self, batch: Sequence[Sequence[int]]) -> FloatArray:
        """Unit vectors (texts, D)."""


class Encoder:
    """One open encoder. One thread at a time may use it."""

    def __init__(self, folder: Path, *, backend: Backend | None = None, threads: int | None = None) -> None:
        """Open the encoder in ``folder``.

        ``backend`` is the native one where it is compiled and supports the model's shape, else numpy. ``threads`` is
        for the native one; by default it uses all processors. Raises :class:`CheckpointError` or
        :class:`UnsupportedError` where the folder holds no BERT encoder.
        """
        self.config = read_config(folder)
        weights = open_weights(folder)
        self.size_bytes = weights_path(folder).stat().st_size
        self._tokenizer = _load_tokenizer(folder)
        self.vocab_size = weights.stored(WORD_EMBEDDINGS)[1][0]
        self.backend: Backend = backend or ("native" if is_supported(self.config, weights) else "numpy")
        self._backend: EncoderBackend = (
            NativeEncoder(self.config, weights, threads=threads)
            if self.backend == "native"
            else NumpyEncoder(self.config, weights)
        )

    def embed(self, texts: Sequence[str], *, truncate: bool = False) -> list[Embedding]:
        """Return a vector of length one for each text.

        Raises :class:`PromptTooLongError` for a text of more tokens than the encoder reads, or cuts it with
        ``truncate``.
        """
        return self.embed_ids(self.encode_batch(texts, truncate=truncate))

    def encode(self, text: str, *, truncate: bool = False) -> list[int]:
        """Return the token ids of ``text``, with the special tokens around them.

        With ``truncate`` a text of more tokens than the encoder reads is cut, before its last special token.
        """
        ids: list[int] = self._tokenizer.encode(text).ids
        return self._truncate(ids) if truncate else ids

    def encode_batch(self, texts: Sequence[str], *, truncate: bool = False) -> list[list[int]]:
        """Like :meth:`encode` for several texts."""
        return [self.encode(text, truncate=truncate) for text in texts]

    def embed_ids(self, batch: Sequence[Sequence[int]]) -> list[Embedding]:
        """Like :meth:`embed`, from token ids that include the special tokens."""
        for ids in batch:
            if not ids:
                raise UsageError("A text without any token has no vector.")
            if len(ids) > self.config.context_length:
                raise PromptTooLongError(len(ids), self.config.context_length, "shorten it")
            if min(ids) < 0 or max(ids) >= self.vocab_size:
                raise UsageError(f"A token id is outside the vocabulary of {self.vocab_size:,} tokens.")
        vectors = self._backend.embed_ids(batch)
        return [Embedding(vector, len(ids)) for vector, ids in zip(vectors, batch, strict=True)]

    def _truncate(self, ids: list[int]) -> list[int]:
        limit = self.config.context_length
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def _load_tokenizer(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path} cannot be read as a tokenizer ({error}).") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
