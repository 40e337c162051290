"""Personal data is found by pattern and checksum, shown masked, and lookalikes are not matched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empu.data.pii import find_pii, iban, luhn, mask_value, nik

MATCHES = {
    "mail joe.bloggs+shop@mail.example.co.uk now": ["email"],
    "card 4111 1111 1111 1111 please": ["card"],
    "card 5500-0000-0000-0004": ["card"],
    "amex 378282246310005": ["card"],
    "IBAN DE89 3704 0044 0532 0130 00, thanks": ["iban"],
    "GB82WEST12345698765432": ["iban"],
    "NIK saya 3174096112900001": ["nik"],
    "call +62 812-3456-7890 or 081234567890": ["phone", "phone"],
    "ring (021) 555-1234 today": ["phone"],
    "from 192.168.1.20 at noon": ["ipv4"],
    "a@b.example, +44 20 7946 0958 and 10.0.0.1": ["email", "phone", "ipv4"],
}

WITHOUT_MATCHES = [
    "",
    "no numbers here",
    "order 1234567890123456 is late",
    "card 4111 1111 1111 1112 fails its check digit",
    "DE89 3704 0044 0532 0130 01 fails its check digits",
    "version 1.2.3.4.5 and 300.1.1.1",
    "on 2024-01-31 at 12:30, 10,000 items for 19.99",
    "3174099912900001 has no such day of birth",
    "meet me @ the shop",
    "article 0000000000000",
    "from 2019 to 2024 in 100 shops",
]


@pytest.mark.parametrize("text", MATCHES)
def test_personal_data_is_found(text: str) -> None:
    assert sorted(match.kind for match in find_pii(text)) == sorted(MATCHES[text])


@pytest.mark.parametrize("text", WITHOUT_MATCHES)
def test_lookalikes_are_not_matched(text: str) -> None:
    assert list(find_pii(text)) == []


def test_masks_hide_the_middle_and_keep_the_shape() -> None:
    assert mask_value("joe@example.com") == "jo•@•••••••.•om"
    assert mask_value("4111 1111 1111 1111") == "41•• •••• •••• ••11"
    for text in MATCHES:
        for match in find_pii(text):
            assert match.masked not in text


@given(st.integers(10**14, 10**15 - 1))
def test_exactly_one_check_digit_passes(number: int) -> None:
    assert sum(luhn(f"{number}{digit}") for digit in range(10)) == 1


@given(st.integers(0, 10**18 - 1))
def test_exactly_one_pair_of_check_digits_passes(account: int) -> None:
    valid = [check for check in range(2, 99) if iban(f"DE{check:02d}{account:018d}")]
    assert len(valid) == 1


def test_identity_numbers_of_women_carry_the_day_plus_forty() -> None:
    assert nik("3174096112900001")
    assert nik("3174092112900001")
    assert not nik("3174093212900001")
    assert not nik("3174092113900001")
    assert not nik("0174092112900001")
    assert not nik("3174092112900000")


@given(st.text(max_size=200))
def test_any_text_is_searched_without_an_error(text: str) -> None:
    assert all(match.kind for match in find_pii(text))
