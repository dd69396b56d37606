"""The console's files: one page and its scripts, the same for everybody. They hold nobody's data and decide nothing.

All that they show comes from the routes in docs/api.md, with the rights of who signed in; so there is one door and not two.
"""

from __future__ import annotations

import html
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.exceptions import HTTPException

from attunement.serving.frame import PAGE_POLICY
from attunement.serving.guard import FORGERY_HEADER, needs

START = "/console"
SCRIPTS = (
    "app.js", "api.js", "dom.js", "words.js", "signing.js", "alerts.js", "reviews.js", "feedback.js", "clients.js", "client.js",
    "client_forms.js", "client_documents.js", "service.js", "account.js",
)  # fmt: skip
FILES = {**dict.fromkeys(SCRIPTS, "text/javascript"), "console.css": "text/css"}
"""What may be asked for, and nothing else of the folder."""


def add_routes(app: FastAPI) -> None:
    static = resources.files("attunement.console").joinpath("static")
    page = static.joinpath("index.html").read_text(encoding="utf-8")

    @app.get(START, include_in_schema=False)
    @needs("console:read")
    async def console(request: Request) -> Response:
        root = html.escape(request.scope.get("root_path", ""))
        access = request.app.state.guard.access
        elsewhere = "1" if access is not None and access.oidc is not None else ""
        told = page.replace("{root}", root).replace("{forgery_header}", FORGERY_HEADER).replace("{elsewhere}", elsewhere)
        return HTMLResponse(told, headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get(f"{START}/{{name}}", include_in_schema=False)
    @needs("console:read")
    async def file(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404, "there is no such page")
        return FileResponse(str(static.joinpath(name)), media_type=FILES[name])
