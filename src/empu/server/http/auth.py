"""Who may ask: keys kept as hashes in the store, browser sessions, and the check of every request's Host and Origin."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from empu.errors import StoreError, UsageError
from empu.system import durable

PREFIX = "empu-"
LINK_LIFE_S = 15 * 60
SESSION_LIFE_S = 30 * 24 * 3600
MAX_SESSIONS = 100
RESERVED = frozenset({"link", "unattended"})
"""Names of those who signed in without a key."""


class Keys:
    """The keys of one store, in ``<home>/server/keys.json`` (mode 0600): name -> SHA-256 and day of making.

    A key is 256 random bits, so that its plain hash cannot be guessed back.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "server" / "keys.json"
        self._seen: tuple[int, ...] | None = None
        self._keys: dict[str, dict[str, str]] = {}
        self._look()

    def __len__(self) -> int:
        return len(self._keys)

    def names(self) -> dict[str, str]:
        """Name -> when it was made."""
        self._look()
        return {name: key["made_at"] for name, key in self._keys.items()}

    def add(self, name: str) -> str:
        """Make a key and return it; it can never be shown again. Raises :class:`UsageError` for a name in use."""
        if not name or len(name) > 64 or not name.isprintable():
            raise UsageError(f"{name!r} cannot be the name of a key; use 1 to 64 printable characters.")
        if name in RESERVED:
            raise UsageError(f"{name!r} is what the server calls whoever came without a key; choose another name.")
        self._look()
        if name in self._keys:
            raise UsageError(f"There is a key called {name!r} already; choose another name, or revoke that one.")
        key = PREFIX + secrets.token_urlsafe(32)
        made = {"sha256": _hash(key), "made_at": datetime.now(UTC).isoformat(timespec="seconds")}
        self._save({**self._keys, name: made})
        return key

    def revoke(self, name: str) -> None:
        """Forget a key. Raises :class:`UsageError` when there is none of that name."""
        self._look()
        if name not in self._keys:
            raise UsageError(f"There is no key called {name!r}; `empu keys list` shows those that there are.")
        self._save({other: key for other, key in self._keys.items() if other != name})

    def owner(self, key: str) -> str | None:
        """The name of a key; compares with every stored hash in constant time."""
        self._look()
        given, found = _hash(key), None
        for name, stored in self._keys.items():
            if hmac.compare_digest(given, stored["sha256"]):
                found = name
        return found

    def has(self, name: str, sha256: str) -> bool:
        """Whether the key of that hash still goes by ``name``."""
        self._look()
        return self._keys.get(name, {}).get("sha256") == sha256

    def _look(self) -> None:
        """Read the file again where another process has changed it."""
        try:
            found = self.path.stat()
            now: tuple[int, ...] | None = (found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:
            now = None
        if now != self._seen or now is None:
            self._keys = self._load()
            self._seen = now

    def _load(self) -> dict[str, dict[str, str]]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            return {str(name): {"sha256": key["sha256"], "made_at": key["made_at"]} for name, key in data.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"{self.path} cannot be read ({error}); delete it, and new keys can be made.") from error

    def _save(self, keys: dict[str, dict[str, str]]) -> None:
        with durable.writing(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write_atomically(self.path, json.dumps(keys, indent=2).encode())  # made with mode 0600
        self._keys = keys


class Sessions:
    """Browsers that signed in: by a link that works once, or with a key, as long as that counts. Kept in memory."""

    def __init__(self) -> None:
        self._links: dict[str, float] = {}
        self._sessions: dict[str, tuple[str, str | None, float]] = {}

    def link(self) -> str:
        """A code that signs one browser in, within a quarter of an hour."""
        code = secrets.token_urlsafe(24)
        self._links[_hash(code)] = time.monotonic() + LINK_LIFE_S
        return code

    def use(self, code: str) -> bool:
        """Whether the code was good; it is not any more."""
        until = self._links.pop(_hash(code), None)
        return until is not None and time.monotonic() < until

    def begin(self, name: str, key: str | None = None) -> str:
        """The cookie of a new session, which ends with ``key``."""
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        cookie = secrets.token_urlsafe(32)
        self._sessions[_hash(cookie)] = name, None if key is None else _hash(key), time.monotonic() + SESSION_LIFE_S
        return cookie

    def owner(self, cookie: str, keys: Keys) -> str | None:
        """Who signed in, unless the key with which they did was revoked."""
        name, sha256, until = self._sessions.get(_hash(cookie), ("", None, 0.0))
        if time.monotonic() >= until or (sha256 is not None and not keys.has(name, sha256)):
            return None
        return name

    def end(self, cookie: str) -> None:
        """Sign out."""
        self._sessions.pop(_hash(cookie), None)


def cookie_name(port: int) -> str:
    """Of the server at ``port``: browsers send a host's cookies to every port."""
    return f"empu_session_{port}"


def given_key(headers: Mapping[str, str]) -> str | None:
    """The key in ``Authorization: Bearer`` or ``x-api-key``."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return headers.get("x-api-key") or None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_bind(host: str, keys: Keys) -> None:
    """Raise :class:`UsageError` for an address that others reach while no key was made yet."""
    if not is_loopback(host) and not len(keys):
        raise UsageError(
            f"{host} can be reached from other machines and there is no key yet; start `empu serve` once without "
            "--host, which makes one."
        )


def allowed_hosts(host: str, port: int, names: Iterable[str] = ()) -> frozenset[str]:
    """Exactly the Host headers that mean this server: loopback, the address it is bound to, and ``names``, which may
    be those of a proxy before it and therefore count without the port too, or with one of their own (``HOST:PORT``).
    """
    given = {name.lower() for name in names}
    with_port = {name for name in given if re.fullmatch(r"(\[[^\]]+\]|[^:]+):\d+", name)}
    bare = {_bracketed(name) for name in given - with_port}
    hosts = {"127.0.0.1", "localhost", "::1"}
    try:
        if not ipaddress.ip_address(host).is_unspecified:
            hosts.add(host)
    except ValueError:
        hosts.add(host)
    written = {_bracketed(name.lower()) for name in hosts}
    return frozenset(
        {f"{name}:{port}" for name in written | bare} | (written if port == 80 else set()) | bare | with_port
    )


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def is_own_origin(origin: str, hosts: frozenset[str]) -> bool:
    """Whether a page of this server sent the request; ``null`` and every other origin did not."""
    scheme, separator, host = origin.partition("://")
    return bool(separator) and scheme in {"http", "https"} and host.lower() in hosts


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
