"""The Ed25519 key of a store, which signs exports. Made at first use; the private half never leaves the store."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from empu.errors import MissingDependencyError, StoreError, UsageError
from empu.system import durable
from empu.system.files import read_bounded

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE_KEY, PUBLIC_KEY = "signing-key.pem", "signing-key.pub.pem"
MAX_KEY_BYTES = 64 << 10


def signing_key(home: Path) -> Ed25519PrivateKey:
    """Return the store's key; make it (mode 0600) if there is none. Raises :class:`~empu.errors.StoreError`."""
    require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = home / "trust"
    path = folder / PRIVATE_KEY
    if not path.exists():
        private = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with durable.explain_write_errors(path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.create_exclusively(path, private)
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077 or path.stat().st_uid != os.getuid():
            raise StoreError(f"{path} can be read by others; run: chmod 600 {path}, or delete it to get a new key.")
        key = serialization.load_pem_private_key(read_bounded(path, MAX_KEY_BYTES), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path} is not a usable key ({error}); restore it, or delete it to get a new one.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{path} is not an Ed25519 key; restore it, or delete it to get a new one.")
    public = public_bytes(key.public_key())
    public_path = folder / PUBLIC_KEY
    with durable.explain_write_errors(public_path):
        if not public_path.is_file() or public_path.read_bytes() != public:
            durable.write_atomically(public_path, public)
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Return the public key in a PEM file. Raises :class:`~empu.errors.UsageError`."""
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = serialization.load_pem_public_key(read_bounded(path, MAX_KEY_BYTES))
    except OSError as error:
        raise UsageError(f"The key {path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{path} holds no public key; give the file {PUBLIC_KEY} of the store that signed.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is not an Ed25519 key; give the file {PUBLIC_KEY} of the store that signed.")
    return key


def public_bytes(key: Ed25519PublicKey) -> bytes:
    """Return a public key as PEM."""
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_id(key: Ed25519PublicKey) -> str:
    """Return the id of a key: the SHA-256 of its DER encoding, in hex."""
    from cryptography.hazmat.primitives import serialization

    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def require_cryptography() -> None:
    """Raise :class:`~empu.errors.MissingDependencyError` if the package ``cryptography`` is not installed."""
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Signatures need the package cryptography; install it with: pip install 'empu[trust]'."
        ) from error
