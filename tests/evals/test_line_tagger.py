"""The line tagger on invented receipts."""

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


def schema_for(fields: dict[str, str]) -> dict[str, Any]:
    return {"properties": {key: {"type": "string"} for key in fields}, "required": list(fields)}


def test_lines_neighbouring_lines_and_shapes_are_extracted() -> None:
    test = [receipt(i) for i in range(100, 120)]
    extracted = line_tagger([receipt(i) for i in range(80)], [text for text, _ in test], schema_for(test[0][1]))
    for key in ("shop", "date", "address", "total"):
        num_right = sum(got[key] == fields[key] for got, (_, fields) in zip(extracted.fields, test, strict=True))
        assert num_right >= 18, key
    assert extracted.size_bytes > 0


def test_a_required_field_that_is_in_no_line_is_empty() -> None:
    extracted = line_tagger(
        [("a b\nc", {"x": "nowhere"}), ("d\ne", {"x": "at all"})], ["a b", ""], schema_for({"x": ""})
    )
    assert extracted.fields == [{"x": ""}, {"x": ""}]


def test_numbers_are_converted_and_missing_fields_are_absent_or_null() -> None:
    rows = []
    for i in range(60):
        text, fields = receipt(i)
        paid = f"\nPAID IN PARTS {i % 7 + 2}" if i % 2 else ""
        expected: dict[str, Any] = {"total": float(fields["total"]), "goods": ["a"], "clerk": None}
        rows.append((text + paid, expected | ({"parts": i % 7 + 2} if paid else {})))
    schema = {
        "properties": {
            "total": {"type": "number"},
            "goods": {"type": "array"},
            "clerk": {"type": ["null", "string"]},
            "parts": {"type": "integer"},
        },
        "required": ["total", "goods", "clerk"],
    }
    extracted = line_tagger(rows[:40], [text for text, _ in rows[40:]], schema)
    assert all(got["total"] == fields["total"] for got, (_, fields) in zip(extracted.fields, rows[40:], strict=True))
    assert all(type(got["total"]) is float and got["clerk"] is None for got in extracted.fields)
    parts = [
        got.get("parts") for got, (_, fields) in zip(extracted.fields, rows[40:], strict=True) if "parts" in fields
    ]
    assert [fields["parts"] for _, fields in rows[40:] if "parts" in fields] == parts
    assert all(type(part) is int for part in parts)
