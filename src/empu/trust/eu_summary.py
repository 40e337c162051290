"""Summary of training content in the sections of the European Commission's template (24 July 2025, Article 53(1)(d)).

It fills what the ledger knows and names what it does not. Whether a tuned model needs a summary is for its provider to
decide; the summary covers the tuning, and quotes what the base model's makers disclose.
"""

from __future__ import annotations

from collections.abc import Iterator

from empu.ledger.records import UNKNOWN
from empu.trust.facts import Facts

TO_FILL = "**not known to the ledger; to be stated by the provider**"


def eu_summary(facts: Facts) -> str:
    """Return the summary as Markdown."""
    return "\n".join(
        [f"# Summary of training content: {facts['name']}", "", *_general(facts), *_sources(facts), *_end(facts)]
    )


def _general(facts: Facts) -> Iterator[str]:
    rows = sum(data["rows"].get("train", 0) for data in facts["data_files"])
    size = sum(data["bytes"] for data in facts["data_files"])
    bases = ", ".join(f"{base['title'] or base['name']} ({base['id']})" for base in facts["base_models"])
    yield from ("## 1. General information", "", "### 1.1 Provider", "", f"- Name and contact: {TO_FILL}", "")
    yield from ("### 1.2 Model", "", f"- Name: {facts['name']}", f"- Version: {facts['id']}")
    yield from (f"- Modified from: {bases or TO_FILL}", f"- Tuned: {facts['run']['ended_at']}")
    yield from (f"- Date of placing on the Union market: {TO_FILL}", "", "### 1.3 Modalities and size", "")
    yield from (
        "- Modality: text",
        f"- Training rows: {rows:,}, from files of {size:,} bytes",
        f"- Languages: {TO_FILL}",
        "",
    )


def _sources(facts: Facts) -> Iterator[str]:
    yield from ("## 2. Data sources", "", "### 2.1 Publicly available data sets", "", TO_FILL, "")
    yield from ("### 2.2 Private data sets from third parties", "", TO_FILL, "")
    yield from ("### 2.3 Data crawled and scraped from online sources", "", TO_FILL, "")
    yield from ("### 2.4 User data", "", TO_FILL, "", "### 2.5 Synthetic data", "", TO_FILL, "")
    yield from ("### 2.6 Other sources", "", "Files that the provider tuned on. The ledger records every row of them,")
    yield from ("and not which of the sections above they belong to:", "")
    for data in facts["data_files"]:
        rows = ", ".join(f"{count:,} {split}" for split, count in sorted(data["rows"].items()))
        licence = TO_FILL if data["licence"] == UNKNOWN else data["licence"]
        yield f"- `{data['file']}`: {rows}; licence: {licence}; SHA-256 `{data['sha256']}`"
    yield from ("", "What the makers of the base model disclose, quoted and not verified:", "")
    statements = [(base, who, says) for base in facts["base_models"] for who, says in base["disclosed"].items()]
    yield from (f"- {base['title'] or base['name']}, {who}: {says}" for base, who, says in statements)
    yield "" if statements else f"- {TO_FILL}\n"


def _end(facts: Facts) -> Iterator[str]:
    yield from ("## 3. Data processing", "", "### 3.1 Reservations of rights (text and data mining)", "", TO_FILL, "")
    yield from ("### 3.2 Removal of illegal content", "", TO_FILL, "", "### 3.3 Other information", "")
    excluded = facts["excluded_rows"]
    yield from (f"- {count:,} rows were excluded: {reason}" for reason, count in excluded.items())
    yield f"- Head of the ledger: `{facts['ledger_head']}`\n"
