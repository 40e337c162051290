"""Guess a legacy encoding by letter statistics.

Each candidate decodes a sample. Its score is the share of characters above ASCII that are usual in the language that
the encoding is made for: level-1 characters for Chinese, Japanese and Korean, frequent letters and plausible case for
alphabets, the letters of one language for Latin scripts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

MIN_SCORE = 0.85
"""Lowest score at which a guess is used."""
MIN_LEAD = 0.02
"""The best guess must lead the next one of another text by this much."""
DENSE_SHARE = 0.6
"""Words with letters above ASCII that have at least this share of them are not in a Latin script."""

_PUNCTUATION = frozenset("‘’‚“”„«»‹›…–—•·°§©®™€£¥¢¡¿№´`¨¸ˆ˜†‡‰\u00a0\u00ad\u200e\u200f₪")


@dataclass(frozen=True, slots=True)
class Guess:
    """An encoding with its score, 1 for text that fits it in full, and the language that it fits."""

    encoding: str
    language: str
    score: float
    text: str


def guesses(sample: bytes) -> list[Guess]:
    """Return the candidates that can decode ``sample``, best first. ``sample`` must end at a character border."""
    candidates = [guess for guess in (*_multibyte(sample), *_alphabets(sample), *_latin(sample)) if guess.score > 0]
    return sorted(candidates, key=lambda guess: -guess.score)


def best_guess(sample: bytes) -> Guess | None:
    """Return the best candidate, or ``None`` if it is poor or another one is nearly as good."""
    ranked = guesses(sample)
    if not ranked or ranked[0].score < MIN_SCORE:
        return None
    best = ranked[0]
    others = [guess for guess in ranked[1:] if guess.text != best.text]
    if others and best.score - others[0].score < MIN_LEAD and not _is_latin(best, others[0]):
        return None
    return best


def is_dense(sample: bytes) -> bool:
    """Whether words with letters above ASCII consist mostly of them, so that their script is not Latin."""
    words = [word for word in re.findall(rb"[A-Za-z\x80-\xff]+", sample) if not word.isascii()]
    high = sum(byte >= 0x80 for word in words for byte in word)
    return bool(high > DENSE_SHARE * sum(map(len, words)))


def _is_latin(best: Guess, other: Guess) -> bool:
    """Latin guesses are listed by how common they are, so a tie goes to the first."""
    latin = {name for name, _ in LATIN_LETTERS}
    return best.language in latin and other.language in latin


def _decode(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return None


# --- Chinese, Japanese and Korean ---


def _multibyte(sample: bytes) -> Iterator[Guess]:
    if not _has_pairs(sample):
        return
    for encoding, language, is_usual in MULTIBYTE:
        text = _decode(sample, encoding)
        if text is None:
            continue
        pairs = [char.encode(encoding) for char in text if ord(char) >= 0x80]
        if pairs:
            yield Guess(encoding, language, is_usual(pairs), text)


def _has_pairs(sample: bytes) -> bool:
    """Whether bytes above ASCII are mostly in runs of two and more, which accented Latin letters do not."""
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", sample)]
    in_runs = sum(length for length in runs if length > 1)
    return bool(10 * in_runs >= 6 * sum(runs) > 0)


def _share(pairs: list[bytes], is_usual: Callable[[int, int], bool]) -> float:
    return sum(len(pair) == 2 and is_usual(pair[0], pair[1]) for pair in pairs) / len(pairs)


def _chinese_simplified(pairs: list[bytes]) -> float:
    return _share(pairs, lambda lead, trail: trail >= 0xA1 and (0xB0 <= lead <= 0xD7 or lead in (0xA1, 0xA3)))


def _chinese_traditional(pairs: list[bytes]) -> float:
    return _share(pairs, lambda lead, trail: 0xA4 <= lead <= 0xC6 or (0xA1 <= lead <= 0xA2))


def _korean(pairs: list[bytes]) -> float:
    share = _share(pairs, lambda lead, trail: trail >= 0xA1 and (0xB0 <= lead <= 0xC8 or lead in (0xA1, 0xA3)))
    return share + 0.05 if share > 0.97 else share * 0.9  # a third of the leads of Chinese text are above C8


def _shift_jis(pairs: list[bytes]) -> float:
    def is_kana(lead: int, trail: int) -> bool:
        return (lead == 0x82 and trail >= 0x9F) or (lead == 0x83 and trail <= 0x96)

    kana = _share(pairs, is_kana)
    usual = _share(pairs, lambda lead, trail: is_kana(lead, trail) or lead == 0x81 or 0x88 <= lead <= 0x98)
    return usual if kana > 0.15 else 0.8 * usual


def _euc_jp(pairs: list[bytes]) -> float:
    kana = _share(pairs, lambda lead, trail: lead in (0xA4, 0xA5))
    usual = _share(pairs, lambda lead, trail: lead in (0xA1, 0xA3, 0xA4, 0xA5) or 0xB0 <= lead <= 0xCF)
    return usual + 0.05 if kana > 0.15 else 0.5 * usual


MULTIBYTE: tuple[tuple[str, str, Callable[[list[bytes]], float]], ...] = (
    ("gb18030", "Chinese", _chinese_simplified),
    ("big5hkscs", "Chinese", _chinese_traditional),
    ("cp932", "Japanese", _shift_jis),
    ("euc_jp", "Japanese", _euc_jp),
    ("cp949", "Korean", _korean),
)


# --- Alphabets other than Latin ---

_CYRILLIC, _GREEK, _HEBREW, _ARABIC, _THAI = "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "THAI"
ALPHABETS: tuple[tuple[str, str, str, str, float], ...] = (
    ("cp1251", "Cyrillic", _CYRILLIC, "оеаинтсрвлк", 0.6),
    ("koi8-r", "Cyrillic", _CYRILLIC, "оеаинтсрвлк", 0.6),
    ("koi8-u", "Cyrillic", _CYRILLIC, "оеаинтсрвлкі", 0.6),
    ("cp866", "Cyrillic", _CYRILLIC, "оеаинтсрвлк", 0.6),
    ("iso8859-5", "Cyrillic", _CYRILLIC, "оеаинтсрвлк", 0.6),
    ("cp1253", "Greek", _GREEK, "αοιετσνηυρκπςόάίέή", 0.7),
    ("iso8859-7", "Greek", _GREEK, "αοιετσνηυρκπςόάίέή", 0.7),
    ("cp1255", "Hebrew", _HEBREW, "יוהלאתרמבשנ", 0.6),
    ("iso8859-8", "Hebrew", _HEBREW, "יוהלאתרמבשנ", 0.6),
    ("cp1256", "Arabic", _ARABIC, "اليمنوتربعهة", 0.6),
    ("iso8859-6", "Arabic", _ARABIC, "اليمنوتربعهة", 0.6),
    ("cp874", "Thai", _THAI, "านรอกเงมยลวดทสต่้", 0.55),
)
"""Encoding, language, script, its frequent letters, and the share of them that running text has."""


def _alphabets(sample: bytes) -> Iterator[Guess]:
    if not is_dense(sample):
        return
    for encoding, language, script, frequent, expected in ALPHABETS:
        text = _decode(sample, encoding)
        if text is None:
            continue
        chars = [char for char in text if ord(char) >= 0x80 and char not in _PUNCTUATION]
        if not chars:
            continue
        of_script = [char for char in chars if unicodedata.name(char, "").startswith(script)]
        frequency = sum(char.casefold() in frequent for char in of_script) / max(1, len(of_script))
        score = len(of_script) / len(chars) * min(1.0, frequency / expected) * _plausible_case(text)
        if script is _THAI:
            score *= _plausible_thai(text)
        yield Guess(encoding, language, score, text)


def _plausible_case(text: str) -> float:
    """Return the share of words in which no capital follows a small letter."""
    words = [word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 1 and not word.isascii()]
    if not words:
        return 1.0
    odd = sum(any(a.islower() and b.isupper() for a, b in pairwise(word)) for word in words)
    capitals = sum(word.isupper() for word in words)
    return 1 - odd / len(words) - (0.2 if capitals > 0.9 * len(words) else 0)


def _plausible_thai(text: str) -> float:
    """Return the share of vowel signs and tone marks that follow a letter or another mark."""
    marks = [(a, b) for a, b in pairwise(text) if unicodedata.category(b) == "Mn"]
    return sum(unicodedata.name(a, "").startswith(_THAI) for a, _ in marks) / len(marks) if marks else 0.5


# --- Latin scripts ---

LATIN_LETTERS: tuple[tuple[str, str], ...] = (
    ("French", "àâæçéèêëîïôœùûüÿ"),
    ("German", "äöüß"),
    ("Spanish", "áéíñóúüºª"),
    ("Portuguese", "ãâáàçéêíóôõúüºª"),
    ("Italian", "àèéìíòóùúºª"),
    ("Swedish or Finnish", "åäöé"),
    ("Danish or Norwegian", "æøåéóò"),
    ("Dutch", "ëïéèöüáóê"),
    ("Catalan", "àèéíïòóúüç"),
    ("Icelandic", "áðéíóúýþæö"),
    ("Polish", "ąćęłńóśźż"),
    ("Czech or Slovak", "áčďéěíňóřšťúůýžľĺŕôä"),
    ("Hungarian", "áéíóöőúüű"),
    ("Romanian", "ăâîşţșț"),
    ("Croatian or Slovenian", "čćđšž"),
    ("Turkish", "çğıöşüâîû"),
    ("Lithuanian", "ąčęėįšųūž"),
    ("Latvian", "āčēģīķļņšūž"),
    ("Estonian", "äöüõšž"),
)
LATIN_ENCODINGS = ("cp1252", "cp1250", "cp1254", "cp1257", "iso8859-2", "iso8859-9", "latin-1", "cp850", "mac-roman")


def _latin(sample: bytes) -> Iterator[Guess]:
    if is_dense(sample):
        return
    for rank, encoding in enumerate(LATIN_ENCODINGS):
        text = _decode(sample, encoding)
        if text is None:
            continue
        chars = [char for char in text if ord(char) >= 0x80 and char not in _PUNCTUATION]
        case = _plausible_case(text)
        score, language = 0.9, "Latin"  # punctuation alone, such as curly quotation marks
        if chars:
            letters = [char.lower() for char in chars if char.isalpha()]
            score, language = max(
                ((sum(c in alphabet for c in letters) / len(chars), name) for name, alphabet in LATIN_LETTERS),
                key=lambda scored: scored[0],
            )
            if language == "Icelandic" and sum(char in "áéíóúæö" for char in letters) < 0.3 * len(letters):
                score *= 0.8  # its other letters are the Turkish ones in another encoding
        yield Guess(encoding, language, max(0.0, score * case - 0.005 * rank), text)
