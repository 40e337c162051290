"""Generated rows in CSV files, for the tests of checks and splits."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

_LISTED = (
    "parcel refund broken late angry please thanks order invoice wrong colour size battery screen charger refused "
    "password login blocked address street courier morning evening weekend manager supervisor discount voucher "
    "expired twice missing receipt email phone number change cancel return label shop staff rude kind quick slow "
    "warranty repair engineer visit appointment postponed delivery window van driver door neighbour signature photo"
)
WORDS = _LISTED.split()
"""Enough for texts that are not near-duplicates of each other by accident."""


def sentence(random_numbers: random.Random, words: int = 12) -> str:
    return " ".join(random_numbers.choice(WORDS) + str(random_numbers.randrange(100)) for _ in range(words))


def rows(count: int, seed: int = 0, classes: int = 3) -> Iterator[tuple[str, str]]:
    random_numbers = random.Random(seed)
    for number in range(count):
        yield sentence(random_numbers), f"class {number % classes}"


def write(path: Path, pairs: Iterable[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(pairs)
    return path
