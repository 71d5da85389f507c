"""`/v1/chat/completions`, `/v1/responses`, `/v1/embeddings`, `/v1/models`, and the same without `/v1`."""

from collections.abc import Callable
from functools import partial
from secrets import token_hex
from time import time
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import InvalidRequest, ModelNotFound, NotFound, WrapperNotFound
from gateway.protocols import chat, embeddings, items, responses
from gateway.protocols.models import capabilities, model, models
from gateway.protocols.openai import Head, OpenAIEncoder
from gateway.protocols.reader import Reader
from gateway.registry import Deployment, Method, Registry
from gateway.routes.body import BodyReader
from gateway.routes.dispatch import Dispatcher
from gateway.routes.reply import OpenAIReply, ReplyMaker
from gateway.routes.response import json_response

MakeEncoder = Callable[[bool], OpenAIEncoder]
Prepared = tuple[Deployment, Method, dict[str, Any], MakeEncoder]


class _Endpoint:
    """Read a JSON body, prepare, dispatch; `_prepare` is the endpoint's own, and runs where the body is read."""

    def __init__(self, registry: Registry, dispatcher: Dispatcher, bodies: BodyReader, replies: ReplyMaker) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._bodies = bodies
        self._replies = replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        prepare = partial(self._prepare, scope["path_params"].get("name"))
        deployment, method, arguments, make_encoder = await self._bodies.read_json(receive, headers, prepare)
        run = self._dispatcher.start(scope, headers, deployment)
        reply = OpenAIReply(self._replies, run, make_encoder)
        await self._dispatcher.dispatch(scope, receive, send, run, deployment, method, arguments, reply)

    def _prepare(self, name: str | None, data: Any) -> Prepared:
        """`name`: the wrapper, when the path names it. `data`: the body."""
        raise NotImplementedError


class ChatEndpoint(_Endpoint):
    def _prepare(self, name: str | None, data: Any) -> Prepared:
        request = chat.parse(data, model=name)
        deployment, method = find_method(self._registry, request.model, "run_chat_completion")
        most = getattr(deployment.instance, "max_choices", 1)
        if request.choices > most:
            message = f"n = {request.choices} is not supported: wrapper {deployment.name} gives {most} at most"
            raise InvalidRequest(message, param="n", code="unsupported_value")
        head = _make_head(request.model)

        def make_encoder(passes_tool_calls: bool) -> OpenAIEncoder:
            reader = Reader(choices=request.choices, passes_tool_calls=passes_tool_calls)
            if request.is_stream:
                return chat.ChatStream(head, reader, includes_usage=request.includes_usage)
            return chat.ChatWhole(head, reader)

        return deployment, method, request.arguments, make_encoder


class ResponsesEndpoint(_Endpoint):
    def _prepare(self, name: str | None, data: Any) -> Prepared:
        request = items.parse(data)
        deployment, method = find_method(self._registry, request.model, "run_response", "run_chat_completion")
        head = _make_head(request.model)

        def make_encoder(passes_tool_calls: bool) -> OpenAIEncoder:
            encoder = responses.ResponseStream if request.is_stream else responses.ResponseWhole
            return encoder(head, Reader(passes_tool_calls=passes_tool_calls), request.body)

        arguments = request.arguments if method.name == "run_response" else request.chat_arguments
        return deployment, method, arguments, make_encoder


class EmbeddingsEndpoint(_Endpoint):
    def _prepare(self, name: str | None, data: Any) -> Prepared:
        request = embeddings.parse(data)
        deployment, method = find_method(self._registry, request.model, "run_embedding")
        return deployment, method, request.arguments, lambda _: embeddings.EmbeddingWhole(request)


class ModelsEndpoints:
    """What answers an OpenAI endpoint now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def all(self, request: Request) -> Response:
        deployments = [entry.deployment for entry in self._registry.snapshot.values() if entry.deployment is not None]
        able = [deployment for deployment in deployments if capabilities(deployment.methods.keys())]
        return json_response(models(_describe(deployment) for deployment in able))

    async def one(self, request: Request) -> Response:
        deployment = _find(self._registry, request.path_params["model"])
        if not capabilities(deployment.methods.keys()):
            raise ModelNotFound(f"wrapper {deployment.name} answers neither chats nor responses nor embeddings")
        return json_response(_describe(deployment))


def find_method(registry: Registry, name: str, *methods: str) -> tuple[Deployment, Method]:
    """The first of these methods that the wrapper has. Raises `ModelNotFound` (404), or 503 while it does not serve."""
    deployment = _find(registry, name)
    for method in methods:
        if method in deployment.methods:
            return deployment, deployment.methods[method]
    try:
        return deployment, deployment.method(methods[-1])
    except NotFound as error:
        raise ModelNotFound(error.message) from None


def _find(registry: Registry, name: str) -> Deployment:
    try:
        return registry.get(name)
    except WrapperNotFound as error:
        raise ModelNotFound(error.message) from None


def _make_head(model_name: str) -> Head:
    return Head(token_hex(12), int(time()), model_name)


def _describe(deployment: Deployment) -> dict[str, Any]:
    return model(deployment.name, deployment.loaded_at, deployment.methods.keys())
