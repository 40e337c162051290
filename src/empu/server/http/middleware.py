"""Around every request: is it for this server, from its own page, by somebody with a key; then count it and log it."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from empu.errors import EmpuError
from empu.server.http.app_state import Context
from empu.server.http.auth import cookie_name, given_key, is_own_origin
from empu.server.http.protocol import BODY_S, HEAD_S, MAX_CONNECTIONS
from empu.serving.errors import ProblemError, problem_of

log = logging.getLogger("empu.server.requests")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_NO_KEY = (
    "A key is needed: send the one that `empu serve` printed at its first start, or one of `empu keys add NAME`, as "
    "'Authorization: Bearer KEY' or 'x-api-key: KEY', or open the sign-in link."
)
_UNKNOWN_KEY = "The key is unknown or was revoked; `empu keys add NAME` makes one, `empu keys list` shows their names."
MAX_HEADERS = 100
MAX_TARGET = 2048


class Guard:
    """Outermost application. What it refuses never reaches a handler."""

    def __init__(
        self,
        app: ASGIApp,
        context: Context,
        is_public: Callable[[str], bool],
        respond: Callable[[Scope, ProblemError], Response],
    ) -> None:
        """``is_public`` says of a path whether it needs no key; ``respond`` writes a refusal in a path's own form."""
        self.app = app
        self._context = context
        self._is_public = is_public
        self._respond = respond
        self._reading: set[asyncio.Timeout] = set()
        self._stopping = False

    def stop_reading(self) -> None:
        """The server ends: bodies that are not complete yet are waited for no longer."""
        self._stopping = True
        for limit in self._reading:
            limit.reschedule(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status, request_id = time.perf_counter(), 0, f"req_{secrets.token_hex(8)}"
        scope["empu.request"] = request_id
        self._context.metrics.running += 1

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = headers["request-id"] = request_id
                if status == 408:
                    headers["Connection"] = "close"
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            try:
                scope["empu.key"] = self._admit(scope, Headers(scope=scope))
            except EmpuError as error:
                await self._respond(scope, problem_of(error))(scope, receive, send_on)
            else:
                await self.app(scope, self._in_time(receive, scope["empu.key"] is not None), send_on)
        finally:
            self._context.metrics.running -= 1
            self._note(scope, status, time.perf_counter() - begun, request_id)

    def _admit(self, scope: Scope, headers: Headers) -> str | None:
        """The name of who asks; ``None`` where nobody needs one. Raises :class:`ProblemError`."""
        if self._context.metrics.running > MAX_CONNECTIONS:
            message = f"{MAX_CONNECTIONS:,} requests are being answered already; try again in 1 s."
            raise ProblemError(429, message, code="too_many_requests", retry_after_s=1)
        if len(scope["headers"]) > MAX_HEADERS or len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            raise ProblemError(431, f"The request has over {MAX_HEADERS} headers, or its address is too long.")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._context.hosts:
            raise ProblemError(
                403,
                "The Host header does not name this server; use the address that `empu serve` printed, or "
                "start it with --name and the name that you use.",
                code="host",
            )
        if any(not is_own_origin(origin, self._context.hosts) for origin in headers.getlist("origin")):
            raise ProblemError(403, "Pages of other origins may not ask this server.", code="origin")
        if self._is_public(scope["path"]):
            return None
        if (key := given_key(headers)) is not None:
            owner = self._context.keys.owner(key)
        else:
            cookie = session_cookie(scope, headers)
            owner = self._context.sessions.owner(cookie, self._context.keys)
        if owner is None:
            raise ProblemError(401, _NO_KEY if key is None else _UNKNOWN_KEY, code="invalid_api_key")
        return owner

    def _in_time(self, receive: Receive, is_known: bool) -> Receive:
        """``receive`` with a deadline for the body, a short one for who has no key. Raises :class:`ProblemError`."""
        seconds = BODY_S if is_known else HEAD_S
        until = asyncio.get_running_loop().time() + seconds
        complete = False

        async def receive_in_time() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(0 if self._stopping else until) as limit:
                    self._reading.add(limit)
                    try:
                        message = await receive()
                    finally:
                        self._reading.discard(limit)
            except TimeoutError:
                if self._stopping:
                    raise ProblemError(
                        503, "The server stops; send the request again later.", code="stopping"
                    ) from None
                raise ProblemError(408, f"The body was not complete within {seconds:.0f} s.", code="timeout") from None
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        return receive_in_time

    def _note(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "unknown")
        self._context.metrics.requests[path, status] += 1
        self._context.metrics.seconds.observe(seconds)
        line = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "request": request_id,
            "method": scope["method"],
            "route": path,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "key": scope.get("empu.key"),
            **scope.get("empu.facts", {}),
        }
        log.info("%s", json.dumps(line))


def session_cookie(scope: Scope, headers: Headers) -> str:
    """The cookie of this server, whatever cookies of others stand beside it."""
    return cookie_parser(headers.get("cookie", "")).get(cookie_name(scope["server"][1]), "")
