"""The interactive page about the interface, without anything from elsewhere and without a script in the page itself.

What fastapi's own page has inline stands in a file of its own here, so that the policy of its content can forbid the rest.
"""

from __future__ import annotations

import html
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from attunement.serving.frame import PAGE_POLICY
from attunement.serving.guard import FORGERY_HEADER, needs

FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
"""Of the package fastapi-offline, which carries them."""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{root}/docs/swagger-ui.css">
<link rel="icon" href="{root}/docs/favicon.png">
</head>
<body>
<div id="swagger-ui" data-openapi="{root}/openapi.json"></div>
<script src="{root}/docs/swagger-ui-bundle.js"></script>
<script src="{root}/docs/start.js"></script>
</body>
</html>
"""
_START = """"use strict";
const place = document.getElementById("swagger-ui");
let token = "";
SwaggerUIBundle({
  url: place.dataset.openapi,
  dom_id: "#swagger-ui",
  deepLinking: true,
  showExtensions: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  requestInterceptor: (request) => {
    if (token) request.headers["FORGERY_HEADER"] = token;
    return request;
  },
  responseInterceptor: (response) => {
    if (response.body && response.body.forgery_token) token = response.body.forgery_token;
    return response;
  },
});
""".replace("FORGERY_HEADER", FORGERY_HEADER)


def add_routes(app: FastAPI) -> None:
    static = resources.files("fastapi_offline").joinpath("static")

    @app.get("/docs", include_in_schema=False)
    @needs("docs:read")
    async def page(request: Request) -> Response:
        text = _PAGE.format(title=html.escape(app.title), root=html.escape(request.scope.get("root_path", "")))
        return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/docs/start.js", include_in_schema=False)
    @needs("docs:read")
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    @app.get("/docs/{name}", include_in_schema=False)
    @needs("docs:read")
    async def file(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404, "there is no such page")
        return FileResponse(str(static.joinpath(name)), media_type=FILES[name])

    @app.get("/openapi.json", include_in_schema=False)
    @needs("docs:read")
    async def description() -> Response:
        return JSONResponse(app.openapi())
