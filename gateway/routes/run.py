"""`POST /{name}/run` and `GET /{name}/schema`."""

from functools import partial

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.disconnect import Disconnect
from gateway.invoke import Invoker
from gateway.protocols.run import encode_json
from gateway.registry import Registry
from gateway.routes.body import BodyReader
from gateway.routes.reply import ReplyMaker
from gateway.run import Run


class RunEndpoint:
    """The whole way of a request: find, parse, invoke, encode."""

    def __init__(self, registry: Registry, invoker: Invoker, bodies: BodyReader, replies: ReplyMaker) -> None:
        self._registry = registry
        self._invoker = invoker
        self._bodies = bodies
        self._replies = replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deployment = self._registry.get(scope["path_params"]["name"])
        method = deployment.method("run_api")
        assert method.signature is not None
        headers = Headers(scope=scope)
        client = scope.get("client")
        run = Run(scope["state"]["request_id"], deployment.name, headers=headers, caller=client and client[0])
        run.activate()
        try:
            arguments = await self._bodies.read_arguments(receive, headers, method.signature, run)
        except BaseException:
            run.end()
            raise
        with self._invoker.replying():
            async with Disconnect(receive, run) as disconnect:
                outcome = await self._invoker.invoke(
                    run, deployment, method, arguments, partial(self._replies.encode, run)
                )
                response = await self._replies.make(outcome)
                await response(scope, disconnect.receive, send)


class SchemaEndpoint:
    """The JSON Schema of a wrapper's arguments and result."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def handle(self, request: Request) -> Response:
        deployment = self._registry.get(request.path_params["name"])
        signature = deployment.method("run_api").signature
        assert signature is not None
        description = {
            "name": deployment.name,
            "description": signature.description,
            "arguments": signature.schema,
            "files": list(signature.files),
            "media_type": signature.media_type,
            "result": signature.result_schema,
        }
        return Response(encode_json(description), media_type="application/json")
