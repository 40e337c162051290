"""Prints the README's table: the worst difference of a logit, family by family, against other implementations.

    python bench/parity_table.py

Random weights in the shape of each family (three layers, width 64), 96 random tokens, float32 on both sides.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.parity.families import FAMILIES, META_FAMILIES, meta_model, meta_world, transformers_model
from tests.parity.test_logits import TOKENS, ours, random_tokens, whole


def worst(folder: Path, expected_of: object) -> float:
    """Largest absolute difference of our logits for the model in ``folder`` to the other implementation's."""
    backend = ours(folder)
    tokens = random_tokens(backend.config.vocab_size, count=TOKENS)
    assert callable(expected_of)
    expected = expected_of(torch.from_numpy(tokens).long()[None])
    return float(np.abs(whole(backend, tokens) - expected).max())


def main() -> None:
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            theirs = transformers_model(family)
            theirs.save_pretrained(folder)
            difference = worst(Path(folder), lambda ids, m=theirs: m(ids).logits[0].numpy())
        print(f"| {family} | Hugging Face folder | transformers | {difference:.0e} |")
    with meta_world():
        for family in META_FAMILIES:
            with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
                theirs = meta_model(family, Path(folder))
                difference = worst(Path(folder), lambda ids, m=theirs: m(ids, 0)[0].numpy())
            print(f"| {family} | Meta folder | Meta's reference code (llama-models) | {difference:.0e} |")


if __name__ == "__main__":
    main()
