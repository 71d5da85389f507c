"""Probes, and what is deployed."""

import dataclasses
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.deployer import Deployer
from gateway.invoke import Invoker
from gateway.registry import Entry, Registry
from gateway.routes.response import json_response
from gateway.version import __version__


class StatusEndpoints:
    """`/livez`, `/readyz`, `/status`, `/status/{name}`."""

    def __init__(self, registry: Registry, deployer: Deployer, invoker: Invoker) -> None:
        self._registry = registry
        self._deployer = deployer
        self._invoker = invoker

    async def live(self, request: Request) -> Response:
        return json_response({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """503 until every wrapper serves or has failed, and again while the server drains."""
        if self._is_ready:
            return json_response({"status": "ready"})
        state = "draining" if self._invoker.is_draining else "loading"
        return json_response({"status": state}, 503, {"Retry-After": "1"})

    @property
    def _is_ready(self) -> bool:
        return self._deployer.is_loaded.is_set() and not self._invoker.is_draining

    async def all(self, request: Request) -> Response:
        """Hayhooks' `status` and `pipelines`, and what is known of each wrapper."""
        entries = self._registry.snapshot
        return json_response(
            {
                "status": "Up!",
                "pipelines": [entry.name for entry in entries.values() if entry.deployment is not None],
                "version": __version__,
                "ready": self._is_ready,
                "wrappers": {name: _describe(entry) for name, entry in entries.items()},
            }
        )

    async def one(self, request: Request) -> Response:
        name = request.path_params["name"]
        return json_response({"status": "Up!", "pipeline": name, **_describe(self._registry.find(name))})


def _describe(entry: Entry) -> dict[str, Any]:
    deployment = entry.deployment
    if deployment is None:
        return {"state": entry.state, "reason": entry.failure}
    return {
        "state": entry.state,
        "reason": entry.failure,
        "generation": deployment.generation,
        "loaded_at": deployment.loaded_at,
        "methods": [method.call.__name__ for method in deployment.methods.values()],
        "limits": dataclasses.asdict(deployment.limits),
        "in_flight": sum(limiter.in_flight for limiter in deployment.limiters),
        "queued": sum(limiter.queued for limiter in deployment.limiters),
    }
