"""More than ten thousand varied strings for tokenizer tests, the same in every run."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

SCRIPTS = (
    (0x20, 0x7E),  # ASCII
    (0xA0, 0x24F),  # Latin
    (0x300, 0x36F),  # combining marks
    (0x370, 0x52F),  # Greek, Cyrillic
    (0x531, 0x5F4),  # Armenian, Hebrew
    (0x600, 0x6FF),  # Arabic
    (0x900, 0x97F),  # Devanagari
    (0xE00, 0xEFF),  # Thai, Lao
    (0x1100, 0x11FF),  # Hangul letters
    (0x1980, 0x1A1F),  # New Tai Lue, Khmer symbols, Buginese
    (0x1B00, 0x1B7F),  # Balinese
    (0x2000, 0x206F),  # punctuation, joiners, direction marks
    (0x2070, 0x218F),  # superscripts, currency, number forms
    (0x2190, 0x25FF),  # arrows, mathematics, blocks
    (0x2600, 0x27BF),  # symbols
    (0x3000, 0x30FF),  # kana
    (0x4E00, 0x9FFF),  # Han
    (0xA980, 0xA9DF),  # Javanese
    (0xAC00, 0xD7A3),  # Hangul
    (0xE000, 0xE0FF),  # private use
    (0xFB00, 0xFDFF),  # ligatures, noncharacters
    (0xFE00, 0xFFFD),  # variation selectors, full width, replacement
    (0x1D400, 0x1D7FF),  # mathematical letters and digits
    (0x1F300, 0x1FAFF),  # emoji
    (0x20000, 0x2A6DF),  # rare Han
    (0xE0001, 0xE007F),  # tags
    (0x10FF00, 0x10FFFD),  # the last plane
)
_WORDS = (
    "Pelanggan meminta pengembalian dana sebelum tanggal 17 Agustus karena barangnya rusak; "
    "tolong periksa nomor pesanan A-00123/IX/2024 dan hubungi mereka kembali besok pagi. "
    "The quick brown fox doesn't jump; it's I'll we've they'd CAN'T SHE'S naïve café "
    "Straße œuvre ÅNGSTRÖM Ελλάδα Привет мир שלום عالم नमस्ते สวัสดี こんにちは 世界 안녕하세요 ꦲꦏ꧀ꦱꦫ 你好"
)
_TOKEN_NAMES = (
    "<|endoftext|> <|im_start|> <|im_end|> <|begin_of_text|> <|end_of_text|> <|eot_id|> <|eom_id|> <|python_tag|> "
    "<|start_header_id|> <|end_header_id|> <|reserved_special_token_7|> <s> </s> <unk> <pad> [INST] [/INST] <0x0A> "
    "<repo_name> <jupyter_code> <|im_ im_end|> <|im_start|><|im_end|> <<SYS>> ▁ Ġ Ċ ▁▁a <|finetune_right_pad_id|>"
)
WORDS = tuple(_WORDS.split())
TOKEN_NAMES = tuple(_TOKEN_NAMES.split())
EMOJI = ("👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇮🇩", "❤️", "1️⃣", "🤷🏻‍♀️", "\u200d", "\ufe0f", "🏴\U000e0067\U000e0062\U000e007f")
SPACES = (
    " ",
    "  ",
    "   ",
    " " * 17,
    "\t",
    "\n",
    "\r\n",
    "\n\n\n",
    " \n",
    "\n ",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\x0b",
    "\x85",
)
CONTROLS = tuple(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x200B, 0x200E, 0x202E, 0xFEFF, 0xFFFC)))
NUMBERS = (
    "0",
    "42",
    "2024",
    "1234567890",
    "3.14159",
    "1e-9",
    "0x7F",
    "½",
    "Ⅷ",
    "٣٤",
    "१२",
    "²",
    "12:30:59",
    "1,000,000.00",
)


@cache
def strings(count: int = 10_500) -> tuple[str, ...]:
    """Return at least ``count`` different strings of at most a few hundred characters."""
    rng = random.Random(3)
    result: dict[str, None] = dict.fromkeys(["", *WORDS, *TOKEN_NAMES, *EMOJI, *SPACES, *CONTROLS, *NUMBERS])
    result |= dict.fromkeys(_code_lines())
    while len(result) < count:
        kind = rng.randrange(6)
        if kind == 0:
            string = " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))
        elif kind == 1:
            low, high = rng.choice(SCRIPTS)
            string = "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 24)))
        elif kind == 2:
            string = "".join(chr(rng.randint(*rng.choice(SCRIPTS))) for _ in range(rng.randint(1, 16)))
        elif kind == 3:
            string = "".join(_any_character(rng) for _ in range(rng.randint(1, 16)))
        elif kind == 4:
            parts = (*WORDS, *TOKEN_NAMES, *EMOJI, *SPACES, *NUMBERS)
            string = "".join(rng.choices(parts, k=rng.randint(1, 10)))
        else:
            mixed = (WORDS, TOKEN_NAMES, EMOJI, SPACES, SPACES, CONTROLS, NUMBERS)
            string = "".join(rng.choice(rng.choice(mixed)) for _ in range(rng.randint(1, 14)))
        result[string] = None
    return tuple(result)


def _any_character(rng: random.Random) -> str:
    """Return any code point except surrogates."""
    code = rng.randrange(0x110000 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


def _code_lines() -> list[str]:
    """Return pairs of lines of this file."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines(keepends=True)
    return ["".join(lines[i : i + 2]) for i in range(0, len(lines), 2)]
