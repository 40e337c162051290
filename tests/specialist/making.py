"""A model that is small enough to be tuned within a second, with a tokenizer of bytes, and rows that it can learn."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.store.tiny_models import tiny_folder

WORDS = [
    "parcel",
    "refund",
    "broken",
    "late",
    "angry",
    "please",
    "thanks",
    "order",
    "invoice",
    "wrong",
    "colour",
    "size",
    "battery",
    "screen",
    "charger",
    "refused",
    "password",
    "login",
    "blocked",
    "address",
    "street",
    "courier",
    "morning",
    "evening",
    "weekend",
    "manager",
    "supervisor",
    "discount",
    "voucher",
]
SIGNS = {"red": "red", "blue": "blue", "green": "green", "oos": "grey"}
"""Label -> the word that its rows begin with."""


def small_base(folder: Path) -> Path:
    """A Hugging Face folder of the preset ``tiny`` with random weights, one token for each byte, and 1,024 places."""
    tiny_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"max_position_embeddings": 1024, "bos_token_id": 256, "eos_token_id": 257}
    (folder / "config.json").write_text(json.dumps(config))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    ends = ["<|im_start|>", "<|im_end|>", *(f"<|unused{i}|>" for i in range(62))]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ends])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "add_bos_token": False}))
    return folder


def said(chance: random.Random, sign: str) -> str:
    """A sentence that begins with a sign."""
    return " ".join([sign, *(chance.choice(WORDS) + str(chance.randrange(100)) for _ in range(3))])


def labelled(count: int, labels: tuple[str, ...] = ("red", "blue"), seed: int = 0) -> str:
    """A CSV file of rows that a model can tell apart by their first word."""
    chance = random.Random(seed)
    rows = (f"{said(chance, SIGNS[labels[i % len(labels)]])},{labels[i % len(labels)]}" for i in range(count))
    return "\n".join(["text,label", *rows]) + "\n"


def preferences(count: int, seed: int = 0) -> str:
    """A JSONL file of prompts whose chosen answers are the other way round from what the small base finds likelier."""
    chance = random.Random(seed)
    rows = [
        {"prompt": said(chance, "red"), "chosen": f"refuse {i % 5}", "rejected": f"gladly {i % 7}"}
        for i in range(count)
    ]
    return "\n".join(map(json.dumps, rows)) + "\n"
