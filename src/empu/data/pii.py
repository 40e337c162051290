"""Find personal data (PII) by pattern and checksum, and mask it for display.

Nothing is removed. Names and postal addresses have no pattern, so an empty result does not mean that there is none.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Validator = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class PiiMatch:
    """One match: its kind, and its masked text."""

    kind: str
    masked: str


def find_pii(text: str) -> Iterator[PiiMatch]:
    """Yield every match in a text. Matches do not overlap; the first kind in :data:`PATTERNS` wins."""
    if "@" not in text and not _DIGITS.search(text):
        return
    taken: list[tuple[int, int]] = []  # sorted spans
    for kind, pattern, is_valid in PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span()
            at = bisect(taken, (start, end))
            free = (at == 0 or taken[at - 1][1] <= start) and (at == len(taken) or end <= taken[at][0])
            if free and is_valid(match.group()):
                taken.insert(at, (start, end))
                yield PiiMatch(kind, mask_value(match.group()))


def mask_value(value: str) -> str:
    """Keep the first and last two characters; replace the letters and digits between them by dots."""
    inner = re.sub(r"[^\W_]", "•", value[2:-2])
    return value[:2] + inner + value[-2:]


def luhn(digits: str) -> bool:
    """Check the last digit of a payment card number (ISO/IEC 7812-1)."""
    total = 0
    for i, char in enumerate(reversed(digits)):
        value = int(char) * (1 + i % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban(value: str) -> bool:
    """Check the digits of an IBAN (ISO 13616): the rearranged number modulo 97 is 1."""
    flat = value.replace(" ", "").upper()
    if len(flat) != IBAN_LENGTHS.get(flat[:2]):
        return False
    return int("".join(str(int(char, 36)) for char in flat[4:] + flat[:4])) % 97 == 1


def nik(value: str) -> bool:
    """Check an Indonesian identity number: province, regency, district, birth date (day + 40 for women), serial."""
    province, day, month, serial = int(value[:2]), int(value[6:8]), int(value[8:10]), value[12:]
    born = 1 <= day <= 31 or 41 <= day <= 71
    return 11 <= province <= 96 and born and 1 <= month <= 12 and serial != "0000"


def _card(value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    return bool(_ISSUERS.fullmatch(digits)) and len(set(digits)) > 1 and luhn(digits)


def _phone(value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    longest = 15 if value.startswith("+") else 13
    return 9 <= len(digits) <= longest and not digits.startswith("00") and len(set(digits)) > 2


def _ipv4(value: str) -> bool:
    return all(int(octet) <= 255 for octet in value.split("."))


def _always(value: str) -> bool:
    return bool(value)


_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3[068]\d{12}|35\d{14}"
    r"|6(?:011|4\d\d|5\d\d)\d{12}|62\d{14,17}"
)
"""First digits and lengths of the large card issuers."""

_BY_LENGTH = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
IBAN_LENGTHS = {code: length for length, codes in _BY_LENGTH.items() for code in codes.split()}
"""Country -> length of its IBANs (registry of ISO 13616)."""

_DIGITS = re.compile(r"\d{3}|\d\.\d")

PATTERNS: tuple[tuple[str, re.Pattern[str], Validator], ...] = (
    ("email", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), _always),
    ("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{2,4}){3,8}\b"), iban),
    ("nik", re.compile(r"(?<![\d.])\d{16}(?![\d.]*\d)"), nik),
    ("card", re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![ -]?\d)"), _card),
    ("phone", re.compile(r"(?<![\w+])(?:\+\d|\(?0)\d{0,3}\)?(?:[ .-]?\(?\d{1,5}\)?){2,6}(?![\w])"), _phone),
    ("ipv4", re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)"), _ipv4),
)
"""Kind, pattern, and the check that a match must pass; earlier kinds win where matches overlap."""
