"""Envelopes: what was forged, cut, reordered or signed again by another key is refused."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from empu.errors import StoreError, UsageError
from empu.ledger.hashing import canonical_json
from empu.trust.dsse import SignatureError, pre_authentication_encoding, sign, verify
from empu.trust.signing_key import PRIVATE_KEY, PUBLIC_KEY, read_public_key, signing_key

pytest.importorskip("cryptography")

STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "a", "digest": {"sha256": "0" * 64}}, {"name": "b", "digest": {"sha256": "1" * 64}}],
    "predicateType": "urn:test",
    "predicate": {"figure": 0.5},
}


def test_pre_authentication_encoding_is_that_of_the_specification() -> None:
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_signed_statement_comes_back(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    assert verify(sign(STATEMENT, key), key.public_key()) == STATEMENT


def test_key_is_made_once_and_private(tmp_path: Path) -> None:
    first, second = signing_key(tmp_path), signing_key(tmp_path)
    assert first.public_key() == second.public_key() == read_public_key(tmp_path / "trust" / PUBLIC_KEY)
    assert stat.S_IMODE((tmp_path / "trust" / PRIVATE_KEY).stat().st_mode) == 0o600


def test_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / "trust" / PRIVATE_KEY).chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        signing_key(tmp_path)


def test_damaged_keys_get_one_sentence(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / "trust" / PRIVATE_KEY).write_text("nonsense")
    with pytest.raises(StoreError, match="not a usable key"):
        signing_key(tmp_path)
    (tmp_path / "text").write_text("nonsense")
    for path in (tmp_path / "text", tmp_path / "trust" / PRIVATE_KEY, tmp_path / "absent", tmp_path):
        with pytest.raises(UsageError):
            read_public_key(path)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    data = sign(STATEMENT, key)
    for length in range(len(data)):
        with pytest.raises(SignatureError):
            verify(data[:length], key.public_key())


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    data = sign(STATEMENT, key)
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(SignatureError):
                verify(bytes(changed), key.public_key())


def test_envelope_signed_again_by_another_key_is_refused(tmp_path: Path) -> None:
    key, other = signing_key(tmp_path / "one"), signing_key(tmp_path / "two")
    with pytest.raises(SignatureError, match="another key"):
        verify(sign(STATEMENT, other), key.public_key())
    forged = json.loads(sign(STATEMENT, other))
    forged["signatures"][0]["keyid"] = json.loads(sign(STATEMENT, key))["signatures"][0]["keyid"]
    with pytest.raises(SignatureError, match="changed or forged"):
        verify(canonical_json(forged) + b"\n", key.public_key())


def test_reordered_and_extended_envelopes_are_refused(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    envelope = json.loads(sign(STATEMENT, key))
    reordered = {name: envelope[name] for name in ("signatures", "payloadType", "payload")}
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["subject"].reverse()
    swapped = {**envelope, "payload": base64.b64encode(canonical_json(statement)).decode()}
    variants = [
        json.dumps(reordered, separators=(",", ":")).encode() + b"\n",
        json.dumps(envelope, indent=2).encode(),
        canonical_json(envelope),
        canonical_json({**envelope, "more": 1}) + b"\n",
        canonical_json({**envelope, "signatures": envelope["signatures"] * 2}) + b"\n",
        canonical_json({**envelope, "signatures": []}) + b"\n",
        canonical_json({**envelope, "signatures": ["x"]}) + b"\n",
        canonical_json({**envelope, "payload": 3}) + b"\n",
        canonical_json({**envelope, "payloadType": "text/plain"}) + b"\n",
        canonical_json(swapped) + b"\n",
    ]
    for data in variants:
        with pytest.raises(SignatureError):
            verify(data, key.public_key())


def test_signed_content_that_is_no_statement_is_refused(tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    with pytest.raises(SignatureError, match="not an in-toto statement"):
        verify(sign({"_type": "other"}, key), key.public_key())
