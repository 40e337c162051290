"""An ensemble in files beside the weights of its specialist: JSON, safetensors, and the vocabulary as text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from empu.checkpoint.block_types import F32
from empu.checkpoint.formats.safetensors import PendingTensor, SafetensorsFile, read_safetensors, write_safetensors
from empu.errors import ConfigError, MissingDependencyError
from empu.members.embeddings import EmbeddingMember, TextEncoder
from empu.members.ensemble import CascadeStage, Ensemble
from empu.members.member import EMBEDDINGS, MEMBERS, TFIDF, LinearLayer, Member
from empu.members.tfidf import TfidfFeatures, TfidfMember
from empu.system.durable import atomic_file
from empu.system.files import read_bounded, read_json_object

ENSEMBLE_FILE = "members.json"
TENSORS_FILE = "members.safetensors"
VOCABULARY_FILE = "members_vocabulary.txt"
"""One term of TF-IDF on each line."""
MAX_VOCABULARY_BYTES = 1 << 30
VERSION = 1

_REMEDY = "tune the specialist again, or put its files back"


def write_ensemble(folder: Path, ensemble: Ensemble) -> None:
    """Write, or overwrite, the files of an ensemble."""
    tensors = []
    for name, member in ensemble.members.items():
        tensors += [_pending(f"{name}.{key}", array) for key, array in member.tensors().items()]
        if isinstance(member, TfidfMember):
            terms = [*member.features.words, *member.features.characters]
            with atomic_file(folder / VOCABULARY_FILE) as file:
                file.write("".join(f"{term}\n" for term in terms).encode("utf-8", "surrogatepass"))
    write_safetensors(folder / TENSORS_FILE, tensors)
    content = {
        "version": VERSION,
        "labels": list(ensemble.labels),
        "members": {name: member.settings() for name, member in ensemble.members.items()},
        "weights": dict(ensemble.weights),
        "cascade": [{"weights": dict(stage.weights), "threshold": stage.threshold} for stage in ensemble.cascade],
        "without": {name: dict(weights) for name, weights in ensemble.without.items()},
        "language_model_calibration": list(ensemble.calibration) if ensemble.calibration is not None else None,
        "fitted_on": dict(ensemble.fitted_on),
    }
    with atomic_file(folder / ENSEMBLE_FILE) as file:
        file.write((json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())


@dataclass(frozen=True, slots=True)
class EnsembleSummary:
    """What is known of an ensemble without opening its members."""

    members: tuple[str, ...]
    """Members beside the language model."""
    weights: Mapping[str, float]
    encoder: str | None
    calibration: tuple[float, float] | None
    """Calibration of the language model alone."""


def read_summary(folder: Path) -> EnsembleSummary | None:
    """Return what ``folder`` says of its ensemble; ``None`` if it has none. Raises :class:`ConfigError`."""
    path = folder / ENSEMBLE_FILE
    if not path.is_file():
        return None
    content = read_json_object(path, ConfigError, remedy=_REMEDY)
    try:
        members, calibration = content["members"], content["language_model_calibration"]
        return EnsembleSummary(
            tuple(members),
            {str(name): float(weight) for name, weight in content["weights"].items()},
            members[EMBEDDINGS]["encoder"] if EMBEDDINGS in members else None,
            (float(calibration[0]), float(calibration[1])) if calibration is not None else None,
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged ({error}); {_REMEDY}.") from None


def read_ensemble(folder: Path, encoders: Callable[[], Sequence[TextEncoder]]) -> Ensemble | None:
    """Return the ensemble beside a specialist's weights; ``None`` if there is none.

    ``encoders`` returns the text encoders on this machine; it is called only if a member needs one. Raises
    :class:`MissingDependencyError` without the encoder of the tuning, and :class:`ConfigError` for damaged files.
    """
    path = folder / ENSEMBLE_FILE
    if not path.is_file():
        return None
    content = read_json_object(path, ConfigError, remedy=_REMEDY)
    if content.get("version") != VERSION:
        raise ConfigError(
            f"{path} has the version {content.get('version')!r}, and this Empu reads {VERSION}; "
            "tune the specialist again."
        )
    try:
        labels = tuple(str(label) for label in content["labels"])
        file = read_safetensors(folder / TENSORS_FILE)
        members: dict[str, Member] = {}
        for name, settings in content["members"].items():
            layer = LinearLayer(_tensor(file, f"{name}.weight"), _tensor(file, f"{name}.bias"))
            if layer.weight.shape[1:] != (len(labels),) or layer.bias.shape != (len(labels),):
                raise ValueError(f"the member {name} is of other labels")
            if name == TFIDF:
                features = _read_features(folder, settings, _tensor(file, f"{name}.idf"))
                if len(features.idf) != len(layer.weight):
                    raise ValueError("the vocabulary has another length than its weights")
                members[name] = TfidfMember(features, layer)
            elif name == EMBEDDINGS:
                members[name] = EmbeddingMember(_find_encoder(str(settings["encoder"]), encoders()), layer)
            else:
                raise ValueError(f"the member {name!r} is unknown")
        calibration = content["language_model_calibration"]
        return Ensemble(
            labels,
            members,
            _weights(content["weights"], members),
            tuple(
                CascadeStage(_weights(stage["weights"], members), float(stage["threshold"]))
                for stage in content["cascade"]
            ),
            {str(name): _weights(weights, members) for name, weights in content["without"].items()},
            (float(calibration[0]), float(calibration[1])) if calibration is not None else None,
            content["fitted_on"],
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError) as error:
        raise ConfigError(f"{path} is damaged ({error}); {_REMEDY}.") from None


def _pending(name: str, array: npt.NDArray[np.float32]) -> PendingTensor:
    contiguous = np.ascontiguousarray(array, dtype="<f4")
    return PendingTensor(name, F32, contiguous.shape, lambda: contiguous.reshape(-1).view(np.uint8))


def _tensor(file: SafetensorsFile, name: str) -> npt.NDArray[np.float32]:
    unpacked = file.type_of(name).unpack(file.bytes_of(name)).reshape(file.entries[name].shape)
    if not np.isfinite(unpacked).all():
        raise ValueError(f"{name} has values that are not finite")
    return unpacked


def _read_features(folder: Path, settings: Mapping[str, Any], idf: npt.NDArray[np.float32]) -> TfidfFeatures:
    data = read_bounded(folder / VOCABULARY_FILE, MAX_VOCABULARY_BYTES)
    terms = data.decode("utf-8", "surrogatepass").split("\n")[:-1]
    num_words, num_characters = int(settings["words"]), int(settings["characters"])
    if not len(terms) == num_words + num_characters == len(idf):
        raise ValueError(f"the vocabulary has {len(terms):,} terms, not {num_words + num_characters:,}")
    return TfidfFeatures(terms[:num_words], terms[num_words:], idf)


def _find_encoder(encoder_id: str, encoders: Sequence[TextEncoder]) -> TextEncoder:
    for encoder in encoders:
        if encoder.id == encoder_id:
            return encoder
    present = ", ".join(encoder.id for encoder in encoders) or "none"
    raise MissingDependencyError(
        f"This specialist was tuned with the text encoder {encoder_id}, which is not installed here (installed: "
        f"{present}); install that version of it, or tune again."
    )


def _weights(value: Mapping[str, Any], members: Mapping[str, Member]) -> dict[str, float]:
    weights = {str(name): float(weight) for name, weight in value.items()}
    for name, weight in weights.items():
        if name not in MEMBERS or (name != MEMBERS[0] and name not in members) or not 0 < weight < math.inf:
            raise ValueError(f"the weight {weight} of {name!r} is impossible")
    if not weights:
        raise ValueError("there are no weights")
    return weights
