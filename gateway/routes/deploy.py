"""The admin doors: `/deploy_files`, `/deploy-yaml`, `/undeploy/{name}`, `/rollback/{name}`, `/restore/{name}`."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.deployer import Deployer
from gateway.errors import BadRequest, Forbidden
from gateway.invoke import Invoker
from gateway.protocols.deploy import DeployRequest, deployed
from gateway.routes.body import BodyReader
from gateway.routes.response import json_response

HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:@\[\]]+))(?::[0-9]{1,5})?")


def check_local(scope: Scope) -> None:
    """Raises `Forbidden` unless the caller is on this machine, no other site's web page, and not behind a proxy."""
    headers = Headers(scope=scope)
    host, origin = headers.get("host", ""), headers.get("origin")
    is_local = (
        _is_loopback((scope.get("client") or ("",))[0])
        and (parts := HOST.fullmatch(host)) is not None
        and _is_loopback(parts[1] or parts[2])
        and origin in (None, f"{scope.get('scheme', 'http')}://{host}")
        and not any(name == "forwarded" or name.startswith("x-forwarded-") for name in headers)
    )
    if not is_local:
        raise Forbidden("this door answers callers on the server's own machine only, straight and not from a web page")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class DeployEndpoint:
    """`/deploy_files` and `/deploy-yaml`; `parse` reads the body of the one or the other."""

    def __init__(
        self, deployer: Deployer, invoker: Invoker, bodies: BodyReader, parse: Callable[[Any], DeployRequest]
    ) -> None:
        self._deployer = deployer
        self._invoker = invoker
        self._bodies = bodies
        self._parse = parse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_local(scope)
        request = await self._bodies.read_json(receive, Headers(scope=scope), self._parse)
        with self._invoker.working():
            number = await self._deployer.deploy(
                request.name,
                request.files,
                overwrite=request.overwrite,
                is_saved=request.is_saved,
                description=request.description,
            )
            await _reply(request.name, number)(scope, receive, send)


class AdminEndpoints:
    def __init__(self, deployer: Deployer, invoker: Invoker) -> None:
        self._deployer = deployer
        self._invoker = invoker

    async def undeploy(self, request: Request) -> Response:
        check_local(request.scope)
        name = request.path_params["name"]
        with self._invoker.working():
            await self._deployer.undeploy(name)
        return json_response({"success": True, "name": name})

    async def rollback(self, request: Request) -> Response:
        """`generation` in the query; without it, the one before the one that serves."""
        check_local(request.scope)
        text = request.query_params.get("generation")
        if text is not None and not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise BadRequest(f"generation must be a number, not {text[:64]!r}")
        name = request.path_params["name"]
        with self._invoker.working():
            return _reply(name, await self._deployer.rollback(name, None if text is None else int(text)))

    async def restore(self, request: Request) -> Response:
        check_local(request.scope)
        name = request.path_params["name"]
        with self._invoker.working():
            return _reply(name, await self._deployer.restore(name))


def _reply(name: str, generation: int) -> Response:
    return json_response(deployed(name, generation))
