"""The page's files, as ``make web`` builds them into ``web`` beside this module; without them, how to build them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]

WEB = Path(__file__).parent / "web"
NOT_BUILT = (
    "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    "<title>Empu</title><p>The web page is not built yet: run <code>make web</code> (it needs Node.js 20.19 or newer) "
    "in Empu's folder and start the server again; the APIs under <code>/v1</code> work without it.</p></html>"
)
_NEVER_CHANGES = "/assets/"
"""Names below it hold a hash of their content."""


def page_files(web: Path = WEB) -> dict[str, Path]:
    """Path -> file, for all that was built; empty where nothing was."""
    if not (web / "index.html").is_file():
        return {}
    return {f"/{file.relative_to(web).as_posix()}": file for file in sorted(web.rglob("*")) if file.is_file()}


def page_routes(files: Mapping[str, Path]) -> list[Route]:
    """One address a file, and the page itself at ``/``."""
    return [
        Route("/", _start(files), methods=["GET"]),
        *(Route(path, _file(path, at), methods=["GET"]) for path, at in files.items()),
    ]


def _start(files: Mapping[str, Path]) -> Handler:
    async def start(request: Request) -> Response:
        if "/index.html" not in files:
            return HTMLResponse(NOT_BUILT)
        return FileResponse(files["/index.html"], headers={"Cache-Control": "no-cache"})

    return start


def _file(path: str, at: Path) -> Handler:
    kept = "max-age=31536000, immutable" if path.startswith(_NEVER_CHANGES) else "no-cache"

    async def file(request: Request) -> Response:
        return FileResponse(at, headers={"Cache-Control": kept})

    return file
