"""API keys, stored as hashes."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import math
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from empu.errors import StoreError, UsageError
from empu.system import durable
from empu.system.file_stamp import FileStamp
from empu.system.files import load_json_object

PREFIX = "empu-"
RESERVED_NAMES = frozenset({"link", "unattended"})
"""Names of users who signed in without a key."""


USE_INTERVAL_S = 60.0
"""The time of a key's last use is written at most this often."""


class ApiKeys:
    """The keys of one store, in ``<home>/server/keys.json`` (mode 0600): name -> SHA-256 and creation time.

    A key has 256 random bits, so its plain hash cannot be reversed by guessing. ``last_use.json`` beside it (mode 0600)
    has name -> time of the last use.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "server" / "keys.json"
        self.use_path = home / "server" / "last_use.json"
        self._used_at: dict[str, float] = {}
        self._file_stamp: FileStamp | None = None
        self._keys: dict[str, dict[str, str]] = {}
        self._reload()

    def __len__(self) -> int:
        return len(self._keys)

    def names(self) -> dict[str, str]:
        """Return name -> creation time."""
        self._reload()
        return {name: key["made_at"] for name, key in self._keys.items()}

    def last_uses(self) -> dict[str, str]:
        """Return name -> time of the last use, for the keys that were used."""
        try:
            stored = load_json_object(self.use_path)
        except (OSError, ValueError):  # absent, or damaged; it is written again at the next use
            return {}
        known = self.names().items()  # a former key of the same name does not count
        return {name: use for name, made_at in known if isinstance(use := stored.get(name), str) and use >= made_at}

    def note_use(self, name: str) -> None:
        """Record that a key was used. A failure to write is ignored: it must not fail the request."""
        now = time.monotonic()
        if name not in self._keys or now - self._used_at.get(name, -math.inf) < USE_INTERVAL_S:
            return
        self._used_at[name] = now
        uses = {**self.last_uses(), name: datetime.now(UTC).isoformat(timespec="seconds")}
        with contextlib.suppress(OSError):
            durable.write_atomically(self.use_path, json.dumps(uses, indent=2).encode())

    def add(self, name: str) -> str:
        """Create a key and return it; it cannot be shown again. Raises :class:`UsageError` for a name in use."""
        if not name or len(name) > 64 or not name.isprintable():
            raise UsageError(f"{name!r} cannot be the name of a key; use 1 to 64 printable characters.")
        if name in RESERVED_NAMES:
            raise UsageError(f"{name!r} is reserved for users without a key; choose another name.")
        self._reload()
        if name in self._keys:
            raise UsageError(f"There is already a key {name!r}; choose another name, or revoke that key.")
        key = PREFIX + secrets.token_urlsafe(32)
        entry = {"sha256": hash_secret(key), "made_at": datetime.now(UTC).isoformat(timespec="seconds")}
        self._save({**self._keys, name: entry})
        return key

    def revoke(self, name: str) -> None:
        """Delete a key. Raises :class:`UsageError` for an unknown name."""
        self._reload()
        if name not in self._keys:
            raise UsageError(f"There is no key {name!r}; `empu keys list` shows the names.")
        self._save({other: key for other, key in self._keys.items() if other != name})

    def owner(self, key: str) -> str | None:
        """Return the name of a key. Compares with every stored hash, each in constant time."""
        self._reload()
        digest, owner = hash_secret(key), None
        for name, stored in self._keys.items():
            if hmac.compare_digest(digest, stored["sha256"]):
                owner = name
        return owner

    def is_current(self, name: str, digest: str) -> bool:
        """Return whether ``name`` still has the key of that SHA-256."""
        self._reload()
        return self._keys.get(name, {}).get("sha256") == digest

    def _reload(self) -> None:
        """Read the file again if another process changed it."""
        try:
            stamp: FileStamp | None = FileStamp.of(self.path)
        except OSError:
            stamp = None
        if stamp != self._file_stamp or stamp is None:
            self._keys = self._load()
            self._file_stamp = stamp

    def _load(self) -> dict[str, dict[str, str]]:
        try:
            data = load_json_object(self.path)
            return {str(name): {"sha256": key["sha256"], "made_at": key["made_at"]} for name, key in data.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{self.path} cannot be read ({error}); delete it and create new keys.") from error

    def _save(self, keys: dict[str, dict[str, str]]) -> None:
        with durable.explain_write_errors(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write_atomically(self.path, json.dumps(keys, indent=2).encode())  # created with mode 0600
        self._keys = keys


def key_from_headers(headers: Mapping[str, str]) -> str | None:
    """Return the key in ``Authorization: Bearer`` or ``x-api-key``."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("x-api-key") or None


def hash_secret(secret: str) -> str:
    """Return the SHA-256 of a secret, in hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
