"""The line tagger on receipts that were made up."""

from __future__ import annotations

from empu.evals.extraction import line_tagger

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


def test_it_finds_whole_lines_neighbours_and_shapes() -> None:
    asked = [receipt(i) for i in range(100, 120)]
    found = line_tagger([receipt(i) for i in range(80)], [text for text, _ in asked])
    for key in ("shop", "date", "address", "total"):
        right = sum(got[key] == fields[key] for got, (_, fields) in zip(found.fields, asked, strict=True))
        assert right >= 18, key
    assert found.size_bytes > 0


def test_a_field_that_is_in_no_line_stays_empty() -> None:
    found = line_tagger([("a b\nc", {"x": "nowhere"}), ("d\ne", {"x": "at all"})], ["a b", ""])
    assert found.fields == [{"x": ""}, {"x": ""}]
