"""A model that is small enough to tune within a second, with a byte tokenizer, and rows that it can learn."""

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
FIRST_WORDS = {"red": "red", "blue": "blue", "green": "green", "oos": "grey"}
"""Label -> the first word of its rows."""


def small_base(folder: Path) -> Path:
    """Write a Hugging Face folder: preset ``tiny``, random weights, one token per byte, context of 1,024 tokens."""
    tiny_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"max_position_embeddings": 1024, "bos_token_id": 256, "eos_token_id": 257}
    (folder / "config.json").write_text(json.dumps(config))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special_tokens = ["<|im_start|>", "<|im_end|>", *(f"<|unused{i}|>" for i in range(62))]
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special_tokens])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "add_bos_token": False}))
    return folder


def random_sentence(rng: random.Random, first_word: str) -> str:
    """Return the first word and three random words."""
    return " ".join([first_word, *(rng.choice(WORDS) + str(rng.randrange(100)) for _ in range(3))])


def labelled_csv(count: int, labels: tuple[str, ...] = ("red", "blue"), seed: int = 0) -> str:
    """Return a CSV file of rows that a model can classify by their first word."""
    rng = random.Random(seed)
    rows = (
        f"{random_sentence(rng, FIRST_WORDS[labels[i % len(labels)]])},{labels[i % len(labels)]}" for i in range(count)
    )
    return "\n".join(["text,label", *rows]) + "\n"


def preferences_jsonl(count: int, seed: int = 0) -> str:
    """Return a JSONL file of preferences. The small base model finds the rejected answers more likely."""
    rng = random.Random(seed)
    rows = [
        {"prompt": random_sentence(rng, "red"), "chosen": f"refuse {i % 5}", "rejected": f"gladly {i % 7}"}
        for i in range(count)
    ]
    return "\n".join(map(json.dumps, rows)) + "\n"
