"""Middleware: authenticates requests by API key or session cookie."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Scope

from empu.server.http.api_keys import ApiKeys, key_from_headers
from empu.server.http.middleware.refusal import FormatError, RefusalMiddleware
from empu.server.http.sessions import Sessions, session_cookie
from empu.serving.errors import RequestError

_NO_KEY = (
    "A key is needed: send the one that `empu serve` printed at its first start, or one of `empu keys add NAME`, as "
    "'Authorization: Bearer KEY' or 'x-api-key: KEY', or open the sign-in link."
)
_UNKNOWN_KEY = (
    "The key is unknown or was revoked; `empu keys add NAME` creates one, `empu keys list` shows the names of all."
)


class AuthenticationMiddleware(RefusalMiddleware):
    """Refuses a request with 401 unless its path is public or its user is known.

    Sets ``scope["empu.key"]`` to the name of the user's key; ``None`` on public paths.
    """

    def __init__(
        self,
        app: ASGIApp,
        format_error: FormatError,
        keys: ApiKeys,
        sessions: Sessions,
        is_public: Callable[[str], bool],
    ) -> None:
        super().__init__(app, format_error)
        self._keys = keys
        self._sessions = sessions
        self._is_public = is_public

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raise :class:`RequestError` for an unknown user."""
        scope["empu.key"] = None
        if self._is_public(scope["path"]):
            return
        key = key_from_headers(headers)
        if key is not None:
            owner = self._keys.owner(key)
        else:
            owner = self._sessions.owner(session_cookie(scope, headers), self._keys)
        if owner is None:
            raise RequestError(401, _NO_KEY if key is None else _UNKNOWN_KEY, code="invalid_api_key")
        scope["empu.key"] = owner
        self._keys.note_use(owner)
