"""The line tagger on receipts that were made up."""

from __future__ import annotations

from typing import Any

from empu.evals.line_tagger import line_tagger

SHOPS = ["KEDAI BUKU ABC", "TOKO MAJU JAYA", "RESTORAN SEDAP", "PASAR SEGAR"]


def receipt(i: int) -> tuple[str, dict[str, str]]:
    shop, day, total = SHOPS[i % 4], f"{1 + i % 28:02}/0{1 + i % 9}/2024", f"{10 + i % 80}.50"
    street = f"NO. {i}, JALAN BESAR"
    lines = [
        shop,
        f"{street},",
        "80000 JOHOR",
        f"DATE: {day} 10:00",
        f"ITEM {i} 3.00",
        f"TOTAL RM {total}",
        "THANK YOU",
    ]
    return "\n".join(lines), {"shop": shop, "date": day, "address": f"{street}, 80000 JOHOR", "total": total}


def schema_like(fields: dict[str, str]) -> dict[str, Any]:
    return {"properties": {key: {"type": "string"} for key in fields}, "required": list(fields)}


def test_it_finds_whole_lines_neighbours_and_shapes() -> None:
    asked = [receipt(i) for i in range(100, 120)]
    found = line_tagger([receipt(i) for i in range(80)], [text for text, _ in asked], schema_like(asked[0][1]))
    for key in ("shop", "date", "address", "total"):
        right = sum(got[key] == fields[key] for got, (_, fields) in zip(found.fields, asked, strict=True))
        assert right >= 18, key
    assert found.size_bytes > 0


def test_a_field_that_is_in_no_line_stays_empty() -> None:
    found = line_tagger([("a b\nc", {"x": "nowhere"}), ("d\ne", {"x": "at all"})], ["a b", ""], schema_like({"x": ""}))
    assert found.fields == [{"x": ""}, {"x": ""}]


def test_numbers_are_numbers_and_what_is_not_found_is_left_out_or_null() -> None:
    rows = []
    for i in range(60):
        text, fields = receipt(i)
        paid = f"\nPAID IN PARTS {i % 7 + 2}" if i % 2 else ""
        known: dict[str, Any] = {"total": float(fields["total"]), "goods": ["a"], "clerk": None}
        rows.append((text + paid, known | ({"parts": i % 7 + 2} if paid else {})))
    schema = {
        "properties": {
            "total": {"type": "number"},
            "goods": {"type": "array"},
            "clerk": {"type": ["null", "string"]},
            "parts": {"type": "integer"},
        },
        "required": ["total", "goods", "clerk"],
    }
    found = line_tagger(rows[:40], [text for text, _ in rows[40:]], schema)
    assert all(got["total"] == fields["total"] for got, (_, fields) in zip(found.fields, rows[40:], strict=True))
    assert all(type(got["total"]) is float and got["clerk"] is None for got in found.fields)
    parts = [got.get("parts") for got, (_, fields) in zip(found.fields, rows[40:], strict=True) if "parts" in fields]
    assert [fields["parts"] for _, fields in rows[40:] if "parts" in fields] == parts
    assert all(type(part) is int for part in parts)
