"""Packed documents: their logits equal those of each document alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from empu.model.packed_documents import PackedDocuments
from tests.parity.families import transformers_model
from tests.parity.test_logits import TOLERANCE, all_logits, open_ours, random_tokens


def test_packed_documents_do_not_attend_to_each_other(tmp_path: Path) -> None:
    transformers_model("Llama 3").save_pretrained(tmp_path)
    backend = open_ours(tmp_path)
    documents = [random_tokens(300, seed, count) for seed, count in ((1, 17), (2, 1), (3, 40))]
    batch = PackedDocuments([len(document) for document in documents])
    tokens = torch.from_numpy(np.concatenate(documents)).long()
    with torch.inference_mode():
        packed = backend.model(tokens, batch.positions(), batch).numpy()
    alone = np.concatenate([all_logits(backend, document) for document in documents])
    assert np.abs(packed - alone).max() < TOLERANCE


def test_a_shared_prefix_equals_a_prefix_in_each_document(tmp_path: Path) -> None:
    transformers_model("Llama 3").save_pretrained(tmp_path)
    backend = open_ours(tmp_path)
    prefix = random_tokens(300, 9, 11)
    documents = [random_tokens(300, seed, count) for seed, count in ((1, 17), (2, 1), (3, 40), (4, 45), (5, 20))]
    batch = PackedDocuments([len(document) for document in documents], prefix=len(prefix))
    tokens = torch.from_numpy(np.concatenate([prefix, *documents])).long()
    with torch.inference_mode():
        packed = backend.model(tokens, batch.positions(), batch).numpy()
    each = [all_logits(backend, np.concatenate([prefix, document])) for document in documents]
    expected = np.concatenate([each[0][: len(prefix)], *(logits[len(prefix) :] for logits in each)])
    assert np.abs(packed - expected).max() < TOLERANCE
