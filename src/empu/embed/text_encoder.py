"""Encoders as retrieval uses them: queries and passages to unit vectors, cut at the encoder's longest input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from empu.embed.discovery import find_encoders
from empu.embed.encoder import Encoder
from empu.embed.weights import weights_path
from empu.ledger.hashing import hash_file


class InstalledEncoder:
    """An encoder in a folder. It is opened when it is first used."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    @cached_property
    def id(self) -> str:
        """Name and hash of the weights."""
        return f"{self.name}@{hash_file(weights_path(self.folder))[:12]}"

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.folder)

    def encode_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors (texts, width)."""
        return self._encode(texts, self._encoder.config.query_prefix)

    def encode_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors (texts, width). Tokens beyond the encoder's longest input are not read."""
        return self._encode(texts, self._encoder.config.passage_prefix)

    def _encode(self, texts: Sequence[str], prefix: str) -> npt.NDArray[np.float32]:
        embeddings = self._encoder.embed([prefix + text for text in texts], truncate=True)
        return np.stack([embedding.vector for embedding in embeddings])


def installed_encoders(home: Path) -> list[InstalledEncoder]:
    """Encoders on this machine, the preferred one first."""
    return [InstalledEncoder(name, folder) for name, folder in find_encoders(home)]
