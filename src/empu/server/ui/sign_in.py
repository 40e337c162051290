"""``/api/signin``, ``/api/signout`` and ``/api/me``: browser sessions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empu import __version__
from empu.server.http.app_state import app_state_of
from empu.server.http.body import read_body
from empu.server.http.sessions import SESSION_LIFETIME_S, cookie_name, session_cookie
from empu.server.ui.protocol import SignIn
from empu.serving.errors import RequestError

MAX_BODY_BYTES = 4096
"""Lower than elsewhere, since no key is needed."""


async def sign_in(request: Request) -> Response:
    """``POST /api/signin``: sets a session cookie in return for a one-time code or a key."""
    state = app_state_of(request)
    code = (await read_body(request, SignIn, max_bytes=MAX_BODY_BYTES)).code
    key = None if state.sessions.redeem_code(code) else code
    owner = "link" if key is None else state.keys.owner(key)
    if owner is None:
        message = "This key is unknown, or the link was used or has expired; give a key, or restart the server."
        raise RequestError(401, message, code="invalid_code")
    response = JSONResponse({"signed_in": True})
    cookie = state.sessions.start(owner, key)
    name = cookie_name(request.scope["server"][1])
    response.set_cookie(name, cookie, max_age=SESSION_LIFETIME_S, httponly=True, samesite="strict")
    return response


async def sign_out(request: Request) -> Response:
    """``POST /api/signout``."""
    app_state_of(request).sessions.end(session_cookie(request.scope, request.headers))
    response = JSONResponse({"signed_in": False})
    response.delete_cookie(cookie_name(request.scope["server"][1]))
    return response


async def me(request: Request) -> Response:
    """``GET /api/me``: 401 unless the browser is signed in; version, models and the name of the key."""
    names, key = app_state_of(request).registry.names(), request.scope["empu.key"]
    return JSONResponse({"version": __version__, "models": list(names), "key": key})
