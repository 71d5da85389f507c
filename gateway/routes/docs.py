"""OpenAPI, and a page that shows it and tries it, without fetching anything from elsewhere."""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gateway.openapi import describe
from gateway.protocols.run import encode_json
from gateway.registry import Entry, Registry

PAGE = Path(__file__).with_name("docs.html")
Snapshot = Mapping[str, Entry]


class DocsEndpoints:
    """`/openapi.json`, `/openapi.yaml`, `/docs`: of what serves now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._json = _Rendering(encode_json)
        self._yaml = _Rendering(_encode_yaml)
        self._page = PAGE.read_text(encoding="utf-8")
        self._page_headers = {
            "Content-Security-Policy": make_policy(self._page),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }

    async def json(self, request: Request) -> Response:
        return Response(await self._render(self._json, request), media_type="application/json")

    async def yaml(self, request: Request) -> Response:
        return Response(await self._render(self._yaml, request), media_type="application/yaml")

    async def _render(self, rendering: "_Rendering", request: Request) -> bytes:
        return await rendering.of(self._registry.snapshot, request.scope.get("root_path", ""))

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers=self._page_headers)


class _Rendering:
    """The last document in one format, kept until the registry swaps its snapshot.

    Made on a thread, once for all who wait: a thousand wrappers take a while.
    """

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode
        self._lock = asyncio.Lock()
        self._made: tuple[Snapshot, str, bytes] | None = None

    async def of(self, snapshot: Snapshot, root_path: str) -> bytes:
        async with self._lock:
            if self._made is None or self._made[0] is not snapshot or self._made[1] != root_path:
                self._made = (snapshot, root_path, await run_in_threadpool(self._make, snapshot, root_path))
            return self._made[2]

    def _make(self, snapshot: Snapshot, root_path: str) -> bytes:
        deployments = [entry.deployment for entry in snapshot.values() if entry.deployment is not None]
        return self._encode(describe(deployments, root_path=root_path))


def _encode_yaml(document: Any) -> bytes:
    """What the JSON says, read back from it, so that what is shared in memory is written out instead of an alias."""
    plain = json.loads(json.dumps(document, ensure_ascii=False).encode(errors="replace"))
    return "".join(_dump(plain, levels=2)).encode()


def _dump(node: Mapping[str, Any], levels: int) -> Iterator[str]:
    """Each path and each schema by itself: as one piece, a thousand wrappers hold the interpreter for a second."""
    for key, value in node.items():
        if levels > 0 and isinstance(value, dict) and value:
            yield _dump_piece({key: {}}).removesuffix(" {}\n") + "\n"
            yield from (indent(piece, "  ") for piece in _dump(value, levels - 1))
        else:
            yield _dump_piece({key: value})


def _dump_piece(node: Mapping[str, Any]) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml, where it is built in
    text: str = yaml.dump(node, Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text


def make_policy(page: str) -> str:
    """The Content-Security-Policy that lets the page's own script and style run and reach this server: nothing else."""

    def hashes(tag: str) -> str:
        blocks = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        return " ".join(f"'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'" for block in blocks)

    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes('script')}",
            f"style-src {hashes('style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
