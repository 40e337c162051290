"""Static files of the page, built by ``make web`` into ``server/web``."""

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
ASSETS_PATH = "/assets"
"""Path of all files but the page itself. Their names hold a hash of the content."""
NOT_BUILT_PAGE = (
    "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    "<title>Empu</title><p>The web page is not built yet: run <code>make web</code> (it needs Node.js 20.19 or newer) "
    "in Empu's folder and load this page again; the APIs under <code>/v1</code> work without it.</p></html>"
)


async def index(request: Request) -> Response:
    """``GET /``: the page, or how to build it."""
    page = WEB / "index.html"
    if not page.is_file():
        return HTMLResponse(NOT_BUILT_PAGE, headers={"Cache-Control": "no-cache"})
    return FileResponse(page, headers={"Cache-Control": "no-cache"})


class AssetFiles(StaticFiles):
    """Files whose content never changes; the folder may appear while the server runs."""

    async def check_config(self) -> None:
        """Raise ``HTTPException`` 404 while there is no folder."""
        if not (self.directory and Path(self.directory).is_dir()):
            raise HTTPException(404)

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a file that browsers may cache for ever."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "max-age=31536000, immutable"
        return response


def is_page(path: str) -> bool:
    """Return whether a path belongs to the page, which contains no data of users."""
    return path == "/" or path.startswith(f"{ASSETS_PATH}/")


def file_routes() -> list[BaseRoute]:
    """Return the routes of the page and its files."""
    assets = AssetFiles(directory=WEB / "assets", check_dir=False)
    return [Route("/", index, methods=["GET"]), Mount(ASSETS_PATH, assets, name="assets")]
