"""Files as they come: what each holds, and either how many rows and excluded records it gives or the error message."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER = "text,label\n"
GOOD = "Where is my parcel?,parcel\nI want my money back,refund\nIt broke in a week,defect\n"
OBJECTS = [{"text": f"Ticket number {n} is late", "label": "ab"[n % 2]} for n in range(6)]


@dataclass(frozen=True)
class Case:
    """A file under ``name``. ``rows`` and ``excluded`` are counts; ``error`` is a part of the one sentence."""

    name: str
    content: bytes | Callable[[Path], None]
    rows: int = 0
    excluded: int = 0
    error: str | None = None


def workbook(sheets: dict[str, list[list[Any]]]) -> bytes:
    openpyxl = importlib.import_module("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def parquet(columns: dict[str, list[Any]]) -> bytes:
    pyarrow, files = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    out = io.BytesIO()
    files.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def archive(names: list[str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, b"<x/>")
    return out.getvalue()


def lines(*values: object) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def text(content: str, encoding: str = "utf-8") -> bytes:
    return content.encode(encoding)


TABLE = [["text", "label"], ["Where is my parcel?", "parcel"], ["I want my money back", "refund"]]
CHAT = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}]


def cases() -> list[Case]:
    return [*delimited_cases(), *json_cases(), *binary_cases()]


def delimited_cases() -> list[Case]:
    swedish = HEADER + "Paketet är försenat,parcel\nJag vill ha pengarna åter,refund\n"
    return [
        Case("plain.csv", text(HEADER + GOOD), 3),
        Case("no-newline-at-end.csv", text(HEADER + GOOD.rstrip()), 3),
        Case("crlf.csv", text((HEADER + GOOD).replace("\n", "\r\n")), 3),
        Case("cr-only.csv", text((HEADER + GOOD).replace("\n", "\r")), 3),
        Case("bom.csv", text(HEADER + GOOD, "utf-8-sig"), 3),
        Case("utf16.csv", text(HEADER + GOOD, "utf-16"), 3),
        Case("utf16-le-without-mark.csv", text(HEADER + GOOD, "utf-16-le"), 3),
        Case("utf16-be-without-mark.csv", text(HEADER + GOOD, "utf-16-be"), 3),
        Case("windows.csv", text(swedish, "cp1252"), 2),
        Case("latin.csv", text(swedish, "latin-1") + b"\x81 what is this,other\n", 3),
        Case("mixed.csv", text(swedish * 3) + b"caf\xe9 is closed,other\n", 6, 3),
        Case("bom-then-windows.csv", text(HEADER + GOOD, "utf-8-sig") + b"caf\xe9 is closed,other\n", 3, 1),
        Case("half-utf16.csv", text(HEADER + GOOD, "utf-16") + b"\n", 3, 1),
        Case("excel-says-which.csv", text("sep=;\n" + (HEADER + GOOD).replace(",", ";")), 3),
        Case(
            "excel-says-which-left-open.csv",
            text('"sep=,"\n' + HEADER + GOOD + '"It never ends,x\n' + GOOD),
            error="line 6: a quotation mark",
        ),
        Case("semicolons.csv", text((HEADER + GOOD).replace(",", ";")), 3),
        Case("bars.txt", text((HEADER + GOOD).replace(",", "|")), 3),
        Case("tabs.tsv", text((HEADER + GOOD).replace(",", "\t")), 3),
        Case("tabs-called.csv", text((HEADER + GOOD).replace(",", "\t")), 3),
        Case("commas-in-quotes.csv", text(HEADER + '"Hello, it broke, again",defect\n"One, two",x\n'), 2),
        Case("lines-in-quotes.csv", text(HEADER + '"Hello\n\nit broke",defect\nmore text,x\n'), 2),
        Case("doubled-quotes.csv", text(HEADER + '"It says ""error""",defect\nmore text,x\n'), 2),
        Case("undoubled-quotes.csv", text(HEADER + '"It says "error" again",defect\nmore text,x\n'), 1, 1),
        Case(
            "undoubled-quotes-over-lines.csv",
            text(HEADER + '"It says "error" here\nand, it goes on\nto "the" end",defect\n"more text",x\nand more,y\n'),
            2,
            3,
        ),
        Case("inches.csv", text(HEADER + '"5" pipe broke",x\n"6" too",x\n' + GOOD + '"two\nlines",x\n'), 4, 2),
        Case(
            "quote-left-open.csv", text(HEADER + GOOD + '"It never ends,x\n' + GOOD), error="line 5: a quotation mark"
        ),
        Case("quote-inside.csv", text(HEADER + 'a 5" pipe broke,defect\nmore text,x\n'), 2),
        Case("empty.csv", b"", error="is empty"),
        Case("white-space.csv", b"\n  \n\t\n", error="nothing but white space"),
        Case("header-only.csv", text(HEADER), error="holds no rows"),
        Case("bom-only.csv", b"\xef\xbb\xbf", error="nothing but white space"),
        Case("one-column.csv", text("text\nhello there friend\nhow are you\n"), error="does not say what to learn"),
        Case("ragged.csv", text(HEADER + GOOD + "too,many,columns\ntoo few\n"), 3, 2),
        Case("all-ragged.csv", text(HEADER + "a,b,c\nd,e,f\n"), error="holds no usable rows; row 2: it has 3 columns"),
        Case("blank-lines.csv", text("\n\n" + HEADER + "\n" + GOOD + "\n\n"), 3),
        Case("twice.csv", text("text,text,label\na b,c d,x\ne f,g h,y\n"), error="more than one column 'text'"),
        Case("unnamed-twice.csv", text("text,label,x,x\na b,p,1,2\ne f,q,1,2\n"), 2),
        Case(
            "two-texts.csv",
            text("subject,body,message,queue\na,b c,d e,x\nf,g h,i j,y\n"),
            error="'body' and 'message'",
        ),
        Case("two-labels.csv", text("text,queue,topic\na b,p,q\nc d,p,r\n"), error="'queue' and 'topic'"),
        Case("label-and-its-name.csv", text("text,label,label_text\na b,0,p\nc d,1,q\ne f,0,p\n"), 3),
        Case("no-header.csv", text(GOOD * 3), error="seems to have no header"),
        Case(
            "strange-names.csv",
            text("col1,col2\n" + "".join(f"My order {n} is late,{'ab'[n % 2]}\n" for n in range(9))),
            9,
        ),
        Case("indonesian.csv", text("teks,kategori\nPaket saya belum sampai,paket\nUang kembali dong,uang\n"), 2),
        Case("shouting.csv", text("TEXT , Label\na b,x\nc d,y\n"), 2),
        Case("empty-cells.csv", text(HEADER + ",x\nsome words,\n  ,y\nfine words,z\n"), 1, 3),
        Case("nul.csv", text(HEADER + GOOD + "a\0b c,x\n"), 3, 1),
        Case("binary.csv", bytes(range(256)) * 20, error="is not a text file"),
        Case("zeros.csv", b"\0" * 5000, error="is not a text file"),
        Case("huge-field.csv", text(HEADER + '"' + "word " * 60_000 + '",x\nsmall one,y\n'), 2),
        Case("one-row.csv", text(HEADER + "a b,x\n"), 1),
        Case("zipped.csv.gz", gzip.compress(text(HEADER + GOOD)), 3),
        Case("cut.csv.gz", gzip.compress(text(HEADER + GOOD * 50))[:-20], error="damaged gzip"),
        Case("numbers.csv", text("a,b\n1,2\n3,4\n"), error="does not say what to learn"),
        Case(
            "prose.txt",
            text("Dear all, this is a letter.\nIt has lines, some with commas.\n"),
            error="does not say what to learn",
        ),
        Case("web-page.csv", b"<!DOCTYPE html><html></html>", error="a web page"),
        Case("notes.md", text("# Notes\n\nSome words.\n"), error="a document"),
        Case("emoji.csv", text(HEADER + "🚚 where is it 😡,parcel\n多謝晒 thank you,thanks\n"), 2),
    ]


def json_cases() -> list[Case]:
    deep = "[" * 100_000 + "]" * 100_000
    return [
        Case("lines.jsonl", lines(*OBJECTS), 6),
        Case("lines-called.json", lines(*OBJECTS), 6),
        Case("array.json", json.dumps(OBJECTS).encode(), 6),
        Case("array-called.jsonl", json.dumps(OBJECTS, indent=1).encode(), 6),
        Case("array-in-utf16.json", json.dumps(OBJECTS).encode("utf-16"), 6),
        Case("array-with-bom.json", json.dumps(OBJECTS).encode("utf-8-sig"), 6),
        Case("array-indented.json", json.dumps(OBJECTS, indent=4).encode(), 6),
        Case("columns.json", json.dumps({"text": ["a b", "c d"], "label": ["x", "y"]}).encode(), 2),
        Case(
            "uneven-columns.json",
            json.dumps({"text": ["a b"], "label": ["x", "y"]}).encode(),
            error="different lengths",
        ),
        Case("wrapped.json", json.dumps({"version": 1, "data": OBJECTS}).encode(), 6),
        Case("two-arrays.json", json.dumps({"train": OBJECTS, "test": OBJECTS}).encode(), error="several arrays"),
        Case("one-object.json", json.dumps(OBJECTS[0]).encode(), 1),
        Case("empty-array.json", b"[]", error="holds no rows"),
        Case("empty-object.json", b"{}", error="no columns"),
        Case("null.json", b"null", error="holds null"),
        Case("strings.json", b'["a", "b"]', error="row 1: it is a string"),
        Case("cut-array.json", json.dumps(OBJECTS).encode()[:-9], error="item 6: it is not JSON"),
        Case("no-bracket.json", json.dumps(OBJECTS).encode()[:-1], error="the array is never closed"),
        Case("two-values.json", json.dumps(OBJECTS).encode() + b" 7", error="something follows the end"),
        Case(
            "no-comma.json", b'[{"text": "a b", "label": "x"} {"text": "c d", "label": "y"}]', error="comma is missing"
        ),
        Case("broken-line.jsonl", lines(*OBJECTS) + b'{"text": "a b", \n' + lines(OBJECTS[0]), 7, 1),
        Case("nested.json", deep.encode(), error="nested too deeply"),
        Case("nested.jsonl", lines(*OBJECTS) + deep.encode() + b"\n", 6, 1),
        Case("nan.jsonl", lines(*OBJECTS) + b'{"text": "a b", "label": NaN}\n', 6, 1),
        Case("surrogate.jsonl", lines(*OBJECTS) + b'{"text": "a \\ud800 b", "label": "x"}\n', 6, 1),
        Case("long-number.jsonl", lines(*OBJECTS) + b'{"text": ' + b"9" * 5000 + b', "label": "x"}\n', 6, 1),
        Case(
            "other-types.jsonl",
            lines(*OBJECTS, {"text": ["a"], "label": "x"}, 7, None, {"text": 5, "label": True}),
            7,
            3,
        ),
        Case(
            "weights.jsonl",
            lines(
                {"messages": [*CHAT, {"role": "user", "content": "Well?"}, CHAT[1] | {"weight": 0}]},
                {"messages": [CHAT[0], CHAT[1] | {"weight": 0}]},
                {"messages": [CHAT[0], CHAT[1] | {"weight": 0.5}]},
            ),
            1,
            2,
        ),
        Case("chats.jsonl", lines({"messages": CHAT}, {"messages": CHAT[:1]}, {"messages": []}), 1, 2),
        Case(
            "sharegpt.json",
            json.dumps(
                [{"id": 1, "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hi!"}]}]
            ).encode(),
            1,
        ),
        Case(
            "chats-as-text.csv",
            b"id,messages\n1," + json.dumps(json.dumps(CHAT)).replace('\\"', '""').encode() + b"\n",
            1,
        ),
        Case(
            "unknown-role.jsonl",
            lines({"messages": CHAT}, {"messages": [{"role": "wizard", "content": "x"}, *CHAT]}),
            1,
            1,
        ),
        Case("infinite.jsonl", b'{"text": "A ticket", "label": 1e400}\n' + lines(*OBJECTS), len(OBJECTS), 1),
        Case(
            "not-a-number.parquet", parquet({"text": ["One", "Two", "Three"], "label": [1.0, 2.0, float("nan")]}), 2, 1
        ),
        Case(
            "alpaca.json",
            json.dumps(
                [
                    {"Instruction": "Add", "Input": "1 2", "Output": "3"},
                    {"Instruction": "Say a", "Input": "", "Output": "a"},
                ]
            ).encode(),
            2,
        ),
        Case(
            "preferences.jsonl",
            lines(
                {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}, {"prompt": "Hi", "chosen": "a", "rejected": "a"}
            ),
            1,
            1,
        ),
        Case(
            "object-answers.jsonl",
            lines({"prompt": "a receipt", "completion": {"total": 3}}, {"prompt": "b", "completion": "c"}),
            2,
        ),
        Case("not-json.json", b"text,label\na,b\n", error="is not JSON"),
    ]


def binary_cases() -> list[Case]:
    return [
        Case("table.parquet", parquet({"text": ["a b", None, "c d"], "label": ["x", "y", "z"]}), 2, 1),
        Case("numbers.parquet", parquet({"text": ["a b", "c d"], "label": [1.0, 2.0]}), 2),
        Case("empty.parquet", parquet({"text": [], "label": []}), error="holds no rows"),
        Case("cut.parquet", parquet({"text": ["a b"], "label": ["x"]})[:-9], error="damaged Parquet"),
        Case("called.csv", parquet({"text": ["a b", "c d"], "label": ["x", "y"]}), 2),
        Case("chats.parquet", parquet({"messages": [CHAT, CHAT]}), 2),
        Case("table.xlsx", workbook({"Tickets": TABLE}), 2),
        Case("empty-rows.xlsx", workbook({"Tickets": [[None, None], TABLE[0], [None], *TABLE[1:]]}), 2),
        Case("two-equal-sheets.xlsx", workbook({"May": TABLE, "June": TABLE}), 4),
        Case("two-sheets.xlsx", workbook({"May": TABLE, "Prices": [["a", "b"], [1, 2]]}), error="several sheets"),
        Case("one-sheet-and-an-empty.xlsx", workbook({"May": TABLE, "Notes": []}), 2),
        Case("empty.xlsx", workbook({"Sheet": []}), error="no sheet with a header and rows"),
        Case("too-wide.xlsx", workbook({"May": [*TABLE, ["a b", "x", "more"]]}), 2, 1),
        Case("cut.xlsx", workbook({"Tickets": TABLE})[:-400], error="damaged workbook"),
        Case("hollow.xlsx", archive(["xl/workbook.xml"]), error="is not a workbook that can be read"),
        Case("letter.docx", archive(["word/document.xml"]), error="a Word document"),
        Case("files.zip", archive(["a.csv"]), error="is an archive"),
        Case("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, error="old Excel"),
        Case("paper.pdf", b"%PDF-1.7\n%\xe2\xe3", error="a PDF document"),
        Case("picture.csv", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, error="an image"),
        Case("model.gguf", b"GGUF\x03\0\0\0", error="a model"),
        Case("books.db", b"SQLite format 3\0" + b"\0" * 100, error="SQLite database"),
    ]
