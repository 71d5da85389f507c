"""OpenAPI, and a page that shows it without fetching anything from elsewhere."""

from pathlib import Path
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from gateway.openapi import describe
from gateway.registry import Registry

PAGE = Path(__file__).with_name("docs.html")
POLICY = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class DocsEndpoints:
    """`/openapi.json`, `/openapi.yaml`, `/docs`: of what serves now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def _document(self, request: Request) -> dict[str, Any]:
        entries = self._registry.snapshot.values()
        deployments = [entry.deployment for entry in entries if entry.deployment is not None]
        return describe(deployments, root_path=request.scope.get("root_path", ""))

    async def json(self, request: Request) -> Response:
        return JSONResponse(self._document(request))

    async def yaml(self, request: Request) -> Response:
        text = yaml.safe_dump(self._document(request), sort_keys=False, allow_unicode=True)
        return Response(text, media_type="application/yaml")

    async def page(self, request: Request) -> Response:
        return HTMLResponse(PAGE.read_bytes(), headers={"Content-Security-Policy": POLICY})
