"""Print the parity table: the largest difference of a logit to other implementations, for each family.

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

from tests.parity.families import FAMILIES, META_FAMILIES, meta_model, single_process_group, transformers_model
from tests.parity.test_logits import NUM_TOKENS, all_logits, open_ours, random_tokens


def max_difference(folder: Path, reference_logits: object) -> float:
    """Return the largest absolute difference of our logits for the model in ``folder`` to the reference."""
    backend = open_ours(folder)
    tokens = random_tokens(backend.config.vocab_size, count=NUM_TOKENS)
    assert callable(reference_logits)
    expected = reference_logits(torch.from_numpy(tokens).long()[None])
    return float(np.abs(all_logits(backend, tokens) - expected).max())


def main() -> None:
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            theirs = transformers_model(family)
            theirs.save_pretrained(folder)
            difference = max_difference(Path(folder), lambda ids, m=theirs: m(ids).logits[0].numpy())
        print(f"| {family} | Hugging Face folder | transformers | {difference:.0e} |")
    with single_process_group():
        for family in META_FAMILIES:
            with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
                theirs = meta_model(family, Path(folder))
                difference = max_difference(Path(folder), lambda ids, m=theirs: m(ids, 0)[0].numpy())
            print(f"| {family} | Meta folder | Meta's reference code (llama-models) | {difference:.0e} |")


if __name__ == "__main__":
    main()
