"""Signed envelopes: DSSE 1.0 around an in-toto statement, with one Ed25519 signature.

https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md. An envelope has exactly one spelling (canonical JSON
and a line end), so that a reordered, extended or cut one is refused before its signature is looked at.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from empu.errors import EmpuError
from empu.ledger.hashing import canonical_json
from empu.system.json import JsonError, parse_json_object
from empu.trust.signing_key import key_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_ENVELOPE_BYTES = 64 << 20

Statement = dict[str, Any]


class SignatureError(EmpuError):
    """An envelope, its signature or what it covers is not as it was signed."""


def sign(statement: Statement, key: Ed25519PrivateKey) -> bytes:
    """Return the envelope of a statement."""
    payload = canonical_json(statement)
    signature = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    signatures = [{"keyid": key_id(key.public_key()), "sig": _encode(signature)}]
    envelope = {"payload": _encode(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
    return canonical_json(envelope) + b"\n"


def verify(data: bytes, key: Ed25519PublicKey) -> Statement:
    """Return the statement of an envelope that this key signed. Raises :class:`SignatureError` for any other."""
    from cryptography.exceptions import InvalidSignature

    try:
        envelope = parse_json_object(data, max_bytes=MAX_ENVELOPE_BYTES)
    except JsonError as error:
        raise SignatureError(f"The envelope is damaged: {error}.") from error
    if set(envelope) != {"payload", "payloadType", "signatures"} or envelope["payloadType"] != PAYLOAD_TYPE:
        raise SignatureError("The envelope is not a DSSE envelope of an in-toto statement.")
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise SignatureError("The envelope must hold exactly one signature.")
    if canonical_json(envelope) + b"\n" != data:
        raise SignatureError("The envelope was rewritten: it is not spelled as it was signed.")
    payload, signature = _decode(envelope["payload"]), _decode(signatures[0].get("sig"))
    if signatures[0] != {"keyid": key_id(key), "sig": signatures[0].get("sig")}:
        raise SignatureError("The envelope was signed by another key than the one that you gave.")
    try:
        key.verify(signature, pre_authentication_encoding(PAYLOAD_TYPE, payload))
    except InvalidSignature:
        raise SignatureError("The signature does not belong to this content; it was changed or forged.") from None
    try:
        statement = parse_json_object(payload, max_bytes=MAX_ENVELOPE_BYTES)
    except JsonError as error:
        raise SignatureError(f"The signed statement is damaged: {error}.") from error
    if statement.get("_type") != STATEMENT_TYPE:
        raise SignatureError("The signed content is not an in-toto statement.")
    return statement


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's PAE of a type and a payload."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _encode(data: bytes) -> str:
    return base64.standard_b64encode(data).decode("ascii")


def _decode(text: object) -> bytes:
    try:
        if not isinstance(text, str):
            raise ValueError
        data = base64.b64decode(text.encode("ascii"), validate=True)
        if _encode(data) != text:  # unused bits of the last letter are not zero
            raise ValueError
        return data
    except (ValueError, binascii.Error):
        raise SignatureError("The envelope is damaged: a value is not base64.") from None
