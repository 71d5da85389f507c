"""The way of every request that runs a wrapper, from its arguments to its last byte."""

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.disconnect import Disconnect
from gateway.files import FileStore
from gateway.invoke import Invoker
from gateway.registry import Deployment, Method
from gateway.routes.reply import Reply
from gateway.run import Run
from gateway.stream import Stream


class Dispatcher:
    """Makes runs and takes them to their end."""

    def __init__(self, invoker: Invoker, files: FileStore) -> None:
        self._invoker = invoker
        self._files = files

    def start(self, scope: Scope, headers: Headers, deployment: Deployment) -> Run:
        """A run that is the current one from here on. Whoever fails before `dispatch` must end it."""
        client = scope.get("client")
        caller = client and client[0]
        run = Run(scope["state"]["request_id"], deployment.name, headers=headers, caller=caller, files=self._files)
        deployment.leases.take()
        run.on_end(deployment.leases.release)
        run.activate()
        return run

    def in_hand(self, reply: ASGIApp) -> ASGIApp:
        """A reply that the end of the process waits for."""

        async def send_reply(scope: Scope, receive: Receive, send: Send) -> None:
            with self._invoker.replying():
                await reply(scope, receive, send)

        return send_reply

    async def dispatch(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        run: Run,
        deployment: Deployment,
        method: Method,
        arguments: Mapping[str, Any],
        reply: Reply,
    ) -> None:
        """Invoke and answer. Raises what `Invoker.invoke` raises, as long as nothing has been sent."""
        if method.headers_parameter is not None:
            arguments = {**arguments, method.headers_parameter: run.headers}
        with self._invoker.replying():
            async with Disconnect(receive, run) as disconnect:
                outcome = await self._invoker.invoke(run, deployment, method, arguments, reply.whole)
                response = await reply.stream(outcome) if isinstance(outcome, Stream) else outcome
                await response(scope, disconnect.receive, send)
