"""`POST /{name}/run` and `GET /{name}/schema`."""

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.registry import Registry
from gateway.routes.body import BodyReader
from gateway.routes.dispatch import Dispatcher
from gateway.routes.reply import ReplyMaker, RunReply
from gateway.routes.response import json_response


class RunEndpoint:
    """Find the wrapper, read its arguments, dispatch."""

    def __init__(self, registry: Registry, dispatcher: Dispatcher, bodies: BodyReader, replies: ReplyMaker) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._bodies = bodies
        self._replies = replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deployment = self._registry.get(scope["path_params"]["name"])
        method = deployment.method("run_api")
        assert method.signature is not None
        headers = Headers(scope=scope)
        run = self._dispatcher.start(scope, headers, deployment)
        try:
            arguments = await self._bodies.read_arguments(receive, headers, method.signature, run)
        except BaseException:
            run.end()
            raise
        reply = RunReply(self._replies, run)
        await self._dispatcher.dispatch(scope, receive, send, run, deployment, method, arguments, reply)


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
        return json_response(description)
