"""Text in legacy encodings is recognised by its letters, can be named, and is refused where a guess would be poor."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from empu.data.formats.encoding import detect_encoding
from empu.errors import EmpuError, UsageError
from tests.data.reading import read, write

TEXTS = {
    "Russian": "Где моя посылка,доставка|Верните деньги,возврат|Курьер не приехал,доставка|Списали дважды,возврат",
    "Ukrainian": "Де моя посилка,доставка|Поверніть гроші,повернення|Чому так довго їде замовлення,доставка",
    "Bulgarian": "Къде е моята пратка,доставка|Върнете ми парите,връщане|Куриерът не дойде днес,доставка",
    "Chinese": "我的包裹在哪里,物流|请退还我的钱,退款|快递员没有来,物流|我被扣款两次,退款|包裹三天没有更新,物流",
    "Traditional": "我的包裹在哪裡,物流|請退還我的錢,退款|快遞員沒有來,物流|我被扣款兩次,退款|包裹三天沒有更新,物流",
    "Japanese": "荷物はどこですか,配送|返金してください,返金|配達員が来ませんでした,配送|二回請求されました,返金",
    "Korean": "제 소포는 어디에 있나요,배송|돈을 돌려주세요,환불|택배 기사님이 오지 않았어요,배송",
    "Greek": "Πού είναι το δέμα μου,αποστολή|Θέλω τα χρήματά μου πίσω,επιστροφή|Ο κούριερ δεν ήρθε ποτέ,αποστολή",
    "Hebrew": "איפה החבילה שלי,משלוח|אני רוצה את הכסף שלי בחזרה,החזר|השליח לא הגיע,משלוח",
    "Arabic": "أين طردي,شحن|أريد استرداد أموالي,استرداد|لم يأت عامل التوصيل اليوم,شحن",
    "Thai": "พัสดุของฉันอยู่ที่ไหน,จัดส่ง|ฉันต้องการเงินคืน,คืนเงิน|พนักงานส่งของไม่มา,จัดส่ง",
    "Polish": "Gdzie jest moja paczka,przesyłka|Proszę o zwrot pieniędzy,zwrot|Kurier nie przyjechał,przesyłka",
    "Czech": "Kde je můj balík,zásilka|Chci vrátit peníze,vrácení|Kurýr nepřijel vůbec,zásilka",
    "Hungarian": "Hol van a csomagom,szállítás|Kérem vissza a pénzem,visszatérítés|A futár nem jött időben,szállítás",
    "Turkish": "Paketim nerede şimdi,kargo|Paramı geri istiyorum,iade|Siparişim değişti mi,iade",
    "German": "Wo ist mein Päckchen,Lieferung|Ich möchte mein Geld zurück,Rückgabe|Die Straße ist falsch,Lieferung",
    "French": "Où est mon colis,livraison répétée|Je veux être remboursé,retour|Il n’est pas là,livraison répétée",
    "Spanish": "¿Dónde está mi paquete?,envío|Quiero una devolución mañana,devolución",
    "Lithuanian": "Kur mano siuntinys,siuntos|Grąžinkite pinigus,grąžinimas|Jūsų užsakymas vėluoja,siuntos",
    "English": "I don’t know where it is,parcel|“Great” service – thanks,praise",
}
ENCODINGS = {
    "Russian": ["cp1251", "koi8-r", "cp866", "iso8859-5"],
    "Ukrainian": ["cp1251", "koi8-u"],
    "Bulgarian": ["cp1251"],
    "Chinese": ["gbk", "gb18030"],
    "Traditional": ["big5"],
    "Japanese": ["shift_jis", "cp932", "euc_jp"],
    "Korean": ["euc_kr", "cp949"],
    "Greek": ["cp1253", "iso8859-7"],
    "Hebrew": ["cp1255"],
    "Arabic": ["cp1256"],
    "Thai": ["cp874"],
    "Polish": ["cp1250", "iso8859-2"],
    "Czech": ["cp1250"],
    "Hungarian": ["cp1250"],
    "Turkish": ["cp1254"],
    "German": ["cp1252", "cp850", "mac-roman"],
    "French": ["cp1252"],
    "Spanish": ["cp1252"],
    "Lithuanian": ["cp1257"],
    "English": ["cp1252"],
}
WAYS = [(language, encoding) for language, encodings in ENCODINGS.items() for encoding in encodings]


def table(language: str) -> str:
    return "text,label\n" + TEXTS[language].replace("|", "\n") + "\n"


@pytest.mark.parametrize(("language", "encoding"), WAYS)
def test_text_of_a_legacy_encoding_is_read_as_it_was_written(tmp_path: Path, language: str, encoding: str) -> None:
    content = table(language)
    kept, _, data = read(tmp_path / "a.csv", content.encode(encoding))
    written = [tuple(line.split(",")) for line in content.splitlines()[1:]]
    assert [(row.fields["text"], row.fields["label"]) for row in kept] == written
    assert any("a guess" in line for line in data.lines())


@pytest.mark.parametrize(("language", "encoding"), WAYS)
def test_a_named_encoding_is_used(tmp_path: Path, language: str, encoding: str) -> None:
    content = table(language)
    kept, _, data = read(tmp_path / "a.csv", content.encode(encoding), encoding=encoding)
    assert kept[0].fields["text"] == content.splitlines()[1].split(",")[0]
    assert any("as requested" in line for line in data.lines())


@pytest.mark.parametrize("language", ["Russian", "Chinese", "Korean"])
def test_labels_in_another_script_beside_english_texts_are_read(tmp_path: Path, language: str) -> None:
    labels = [line.split(",")[1] for line in TEXTS[language].split("|")]
    content = "text,label\n" + "".join(f"Where is order number {i},{labels[i % len(labels)]}\n" for i in range(12))
    kept, _, _ = read(tmp_path / "a.csv", content.encode(ENCODINGS[language][0]))
    assert {row.label for row in kept} == set(labels)


def test_json_lines_in_a_legacy_encoding_are_read(tmp_path: Path) -> None:
    lines = [line.split(",") for line in TEXTS["Chinese"].split("|")]
    content = "".join(f'{{"text": "{text}", "label": "{label}"}}\n' for text, label in lines)
    kept, _, _ = read(tmp_path / "a.jsonl", content.encode("gbk"))
    assert [row.fields["text"] for row in kept] == [text for text, _ in lines]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("language", ["Chinese", "Russian", "English"])
def test_unicode_with_and_without_a_mark_is_read(tmp_path: Path, encoding: str, language: str) -> None:
    content = table(language)
    kept, _, _ = read(tmp_path / "a.csv", content.encode(encoding))
    assert kept[0].fields["text"] == content.splitlines()[1].split(",")[0]


def test_noise_is_refused_with_the_option_that_names_an_encoding(tmp_path: Path) -> None:
    chance = random.Random(3)
    noise = b"".join(bytes(chance.randrange(0x80, 0x100) for _ in range(20)) + b",x\n" for _ in range(30))
    with pytest.raises(EmpuError, match="--encoding"):
        read(tmp_path / "a.csv", b"text,label\n" + noise)


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    for name in ("klingon", "base64", "rot13", ""):
        with pytest.raises(UsageError, match="--encoding"):
            read(tmp_path / "a.csv", table("English"), encoding=name)


def test_an_encoding_that_does_not_fit_excludes_the_rows(tmp_path: Path) -> None:
    kept, excluded, _ = read(tmp_path / "a.csv", table("German").encode("cp1252"), encoding="utf-8")
    assert not kept
    assert "not text in the file's encoding" in excluded[0].reason


def test_an_encoding_for_a_file_without_text_is_refused(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [("text", "label"), ("a b", "x"), ("c d", "y")]:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(UsageError, match="--encoding is for text files"):
        read(tmp_path / "a.xlsx", (tmp_path / "a.xlsx").read_bytes(), encoding="cp1252")


def test_utf8_with_a_few_damaged_lines_stays_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", (table("French") * 3).encode() + b"caf\xe9 is closed,other\n")
    encoding = detect_encoding(path)
    assert (encoding.name, encoding.mixed) == ("utf-8", True)
