"""The page's files, as ``make web`` builds them into ``web`` beside this module; without them, how to build them."""

from __future__ import annotations

from os import PathLike, stat_result
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

WEB = Path(__file__).parents[1] / "web"
ASSETS = "/assets"
"""All but the page itself lies below it, under names that hold a hash of the content."""
NOT_BUILT = (
    "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    "<title>Empu</title><p>The web page is not built yet: run <code>make web</code> (it needs Node.js 20.19 or newer) "
    "in Empu's folder and load this page again; the APIs under <code>/v1</code> work without it.</p></html>"
)


async def start(request: Request) -> Response:
    """``GET /``."""
    page = WEB / "index.html"
    if not page.is_file():
        return HTMLResponse(NOT_BUILT, headers={"Cache-Control": "no-cache"})
    return FileResponse(page, headers={"Cache-Control": "no-cache"})


class Assets(StaticFiles):
    """Files that never change under their names; none of them is there before the page is built."""

    async def check_config(self) -> None:
        """Raises ``HTTPException`` 404 while there is no folder; the next request looks again."""
        if not (self.directory and Path(self.directory).is_dir()):
            raise HTTPException(404)

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """A file, for a browser to keep."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "max-age=31536000, immutable"
        return response


def is_page(path: str) -> bool:
    """Whether a path belongs to the page, which holds nothing of anybody's."""
    return path == "/" or path.startswith(f"{ASSETS}/")


def routes() -> list[BaseRoute]:
    """The page and its files."""
    assets = Assets(directory=WEB / "assets", check_dir=False)
    return [Route("/", start, methods=["GET"]), Mount(ASSETS, assets, name="assets")]
