"""Licences are recognised by their text or by exact names; nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from empu.ledger.licences import LICENCES, find_by_name, identify

ROOT = Path(__file__).resolve().parents[2]


def test_licence_file_of_this_project_is_apache() -> None:
    licence = identify((ROOT / "LICENSE").read_text(encoding="utf-8"))
    assert licence is not None
    assert licence.id == "Apache-2.0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("META LLAMA 3 COMMUNITY LICENSE AGREEMENT\nMeta Llama 3 Version Release Date: April 18, 2024", "llama3"),
        ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version Release Date", "llama3.1"),
        ("LLAMA 3.2 COMMUNITY\n   LICENSE AGREEMENT", "llama3.2"),
        ("LLAMA 2 COMMUNITY LICENSE AGREEMENT", "llama2"),
        (
            'Permission is hereby granted, free of charge, to any person\nTHE SOFTWARE IS PROVIDED "AS IS", WITHOUT',
            "MIT",
        ),
        ("Creative Commons Attribution-NonCommercial 4.0 International Public License", "CC-BY-NC-4.0"),
    ],
)
def test_texts_are_recognised(text: str, expected: str) -> None:
    licence = identify(text)
    assert licence is not None
    assert licence.id == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("apache-2.0", "Apache-2.0"), (" Apache License 2.0 ", "Apache-2.0"), ("mit", "MIT"), ("LLAMA3.2", "llama3.2")],
)
def test_names_are_recognised(name: str, expected: str) -> None:
    licence = find_by_name(name)
    assert licence is not None
    assert licence.id == expected


@pytest.mark.parametrize("name", ["", "apache", "llama", "llama9", "other", "apache-2.0 or mit"])
def test_inexact_names_are_not_recognised(name: str) -> None:
    assert find_by_name(name) is None


def test_no_name_belongs_to_two_licences() -> None:
    seen: dict[str, str] = {}
    for licence in LICENCES:
        for name in (licence.id, licence.title, *licence.aliases):
            assert seen.setdefault(name.casefold(), licence.id) == licence.id


def test_other_text_is_not_recognised() -> None:
    assert identify("You may look at this on Tuesdays.") is None
