"""Probes, and what is deployed."""

import dataclasses
import os
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.deployer import Deployer
from gateway.errors import NotFound
from gateway.haystack.graph import to_mermaid
from gateway.invoke import Invoker
from gateway.registry import Entry, Registry
from gateway.routes.response import json_response
from gateway.settings import Settings
from gateway.team import Team
from gateway.tracker import Tracker
from gateway.version import __version__


class StatusEndpoints:
    """`/livez`, `/readyz`, `/status`, `/status/{name}`, `/draw/{name}`."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        tracker: Tracker,
        deployer: Deployer,
        team: Team,
        invoker: Invoker,
    ) -> None:
        self._workers = settings.workers
        self._registry = registry
        self._tracker = tracker
        self._deployer = deployer
        self._team = team
        self._invoker = invoker
        self._were_all_loaded = False

    async def live(self, request: Request) -> Response:
        return json_response({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """503 until every wrapper serves or has failed, in every worker, and again while the server drains."""
        if await self._is_ready():
            return json_response({"status": "ready"})
        state = "draining" if self._invoker.is_draining else "loading"
        return json_response({"status": state}, 503, {"Retry-After": "1"})

    async def _is_ready(self) -> bool:
        if self._invoker.is_draining or not self._tracker.is_loaded.is_set():
            return False
        if not self._were_all_loaded:
            self._were_all_loaded = await self._team.are_all_loaded(self._workers)
        return self._were_all_loaded

    async def all(self, request: Request) -> Response:
        """Hayhooks' `status` and `pipelines`, and what is known of each wrapper and each worker."""
        entries = self._registry.snapshot
        deployments = [entry.deployment for entry in entries.values() if entry.deployment is not None]
        workers = {os.getpid(): {each.name: each.generation for each in deployments}, **await self._team.serving()}
        return json_response(
            {
                "status": "Up!",
                "pipelines": [each.name for each in deployments],
                "version": __version__,
                "ready": await self._is_ready(),
                "wrappers": {name: _describe(entry) for name, entry in entries.items()},
                "workers": [{"pid": pid, "generations": workers[pid]} for pid in sorted(workers)],
            }
        )

    async def one(self, request: Request) -> Response:
        name = request.path_params["name"]
        entry = self._registry.find(name)
        history = [dataclasses.asdict(kept) for kept in await self._deployer.history(name)]
        return json_response({"status": "Up!", "pipeline": name, **_describe(entry), "history": history})

    async def draw(self, request: Request) -> Response:
        """The graph of the wrapper's `pipeline` as Mermaid text."""
        deployment = self._registry.get(request.path_params["name"])
        try:
            text = to_mermaid(getattr(deployment.instance, "pipeline", None))
        except TypeError:
            raise NotFound(f"wrapper {deployment.name} has no pipeline that could be drawn") from None
        return Response(text, media_type="text/vnd.mermaid")


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
