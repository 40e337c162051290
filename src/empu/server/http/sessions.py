"""Browser sessions, kept in memory."""

from __future__ import annotations

import secrets
import time

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from empu.server.http.api_keys import ApiKeys, hash_secret

CODE_LIFETIME_S = 15 * 60
SESSION_LIFETIME_S = 30 * 24 * 3600
MAX_SESSIONS = 100


class Sessions:
    """Browsers that signed in with a one-time code or a key. A session ends when its key is revoked."""

    def __init__(self) -> None:
        self._codes: dict[str, float] = {}
        self._sessions: dict[str, tuple[str, str | None, float]] = {}

    def create_code(self) -> str:
        """Return a code that signs in one browser, valid for :data:`CODE_LIFETIME_S`."""
        code = secrets.token_urlsafe(24)
        self._codes[hash_secret(code)] = time.monotonic() + CODE_LIFETIME_S
        return code

    def redeem_code(self, code: str) -> bool:
        """Return whether the code was valid, and invalidate it."""
        expires_at = self._codes.pop(hash_secret(code), None)
        return expires_at is not None and time.monotonic() < expires_at

    def start(self, name: str, key: str | None = None) -> str:
        """Start a session and return its cookie. The oldest session ends if there are too many."""
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        cookie = secrets.token_urlsafe(32)
        key_digest = None if key is None else hash_secret(key)
        self._sessions[hash_secret(cookie)] = name, key_digest, time.monotonic() + SESSION_LIFETIME_S
        return cookie

    def owner(self, cookie: str, keys: ApiKeys) -> str | None:
        """Return who signed in, unless the session expired or its key was revoked."""
        name, key_digest, expires_at = self._sessions.get(hash_secret(cookie), ("", None, 0.0))
        if time.monotonic() >= expires_at or (key_digest is not None and not keys.is_current(name, key_digest)):
            return None
        return name

    def end(self, cookie: str) -> None:
        """Sign out."""
        self._sessions.pop(hash_secret(cookie), None)


def cookie_name(port: int) -> str:
    """Return the cookie's name, with the port: browsers send a host's cookies to all its ports."""
    return f"empu_session_{port}"


def session_cookie(scope: Scope, headers: Headers) -> str:
    """Return this server's session cookie, or an empty text."""
    return cookie_parser(headers.get("cookie", "")).get(cookie_name(scope["server"][1]), "")
