"""`/v1/files`, and the same without `/v1`."""

from dataclasses import asdict
from functools import partial
from secrets import token_hex
from time import time
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, MalformedRangeHeader, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import InvalidRequest
from gateway.files import FileStore
from gateway.protocols.files import FileUpload, deletion, file_list, file_object, parse_query, parse_upload
from gateway.protocols.openai import OpenAIEncoder
from gateway.protocols.run import encode_json
from gateway.registry import Deployment, Registry
from gateway.routes.body import BodyReader
from gateway.routes.dispatch import Dispatcher
from gateway.routes.openai import find_method
from gateway.routes.reply import OpenAIReply, ReplyMaker
from gateway.routes.response import json_response
from gateway.run import Run
from gateway.thread import ThreadPool

METHOD = "run_file_upload"
MAX_FILES = 2  # one is taken; more are not read, but told from one


class UploadEndpoint:
    """Keeps the file, or hands it to the wrapper that takes uploads: the one that is named, or the only one."""

    def __init__(
        self,
        registry: Registry,
        dispatcher: Dispatcher,
        bodies: BodyReader,
        replies: ReplyMaker,
        store: FileStore,
        pool: ThreadPool,
    ) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._bodies = bodies
        self._replies = replies
        self._store = store
        self._pool = pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        holder = Run(scope["state"]["request_id"], "")  # holds the upload until this request is over
        try:
            texts, uploads = await self._bodies.read_form(receive, headers, holder, MAX_FILES)
            upload = parse_upload({name: values[-1] for name, values in texts.items()})
            files = uploads.get("file", [])
            if len(files) != 1:
                message = f"one file is expected in the field file, not {len(files)}"
                raise InvalidRequest(message, param="file", code="missing_required_parameter")
            deployment = self._choose(upload.model)
            if deployment is not None:
                return await self._hand_over(scope, receive, send, headers, deployment, upload, files[0])
            add = partial(
                self._store.add,
                files[0].file,
                filename=files[0].filename or "upload",
                purpose=upload.purpose,
                content_type=files[0].content_type or "application/octet-stream",
                expires_in_s=upload.expires_in_s,
            )
            response = json_response(file_object(asdict(await self._pool.call(add))))
        finally:
            holder.end()
        await response(scope, receive, send)

    def _choose(self, model: str | None) -> Deployment | None:
        if model is not None:
            return find_method(self._registry, model, METHOD)[0]
        serving = [entry.deployment for entry in self._registry.snapshot.values() if entry.deployment is not None]
        able = [deployment for deployment in serving if METHOD in deployment.methods]
        return able[0] if len(able) == 1 else None

    async def _hand_over(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Headers,
        deployment: Deployment,
        upload: FileUpload,
        file: UploadFile,
    ) -> None:
        content = await self._pool.call(file.file.read)
        run = self._dispatcher.start(scope, headers, deployment)
        arguments = {
            "filename": file.filename,
            "content_type": file.content_type,
            "content": content,
            "purpose": upload.purpose,
        }
        known = {"filename": file.filename or "upload", "purpose": upload.purpose, "size": len(content)}
        reply = OpenAIReply(self._replies, run, lambda _: _FileEncoder(known))
        method = deployment.methods[METHOD]
        await self._dispatcher.dispatch(scope, receive, send, run, deployment, method, arguments, reply)


class FilesEndpoints:
    """List, retrieve, content, delete."""

    def __init__(self, dispatcher: Dispatcher, replies: ReplyMaker, store: FileStore, pool: ThreadPool) -> None:
        self._dispatcher = dispatcher
        self._replies = replies
        self._store = store
        self._pool = pool

    async def page(self, request: Request) -> Response:
        query = parse_query(request.query_params)

        def find() -> dict[str, Any]:
            files, has_more = self._store.page(
                purpose=query.purpose, limit=query.limit, after=query.after, order=query.order
            )
            return file_list([file_object(asdict(file)) for file in files], has_more=has_more)

        return json_response(await self._pool.call(find))

    async def one(self, request: Request) -> Response:
        return json_response(file_object(asdict(await self._get(request))))

    async def content(self, request: Request) -> ASGIApp:
        """As bytes and nothing else: a page that was uploaded is not to be opened under the gateway's own address."""
        file = await self._get(request)
        name = file.filename.rpartition("/")[2]  # what is to be written where is not for the uploader to say
        response = _Content(
            file.path,
            media_type="application/octet-stream",
            filename=name if name.strip(".") else file.id,
            headers={"X-Content-Type-Options": "nosniff"},
            stat_result=await self._pool.call(file.stat),
        )
        return self._dispatcher.in_hand(self._replies.respond(response))

    async def delete(self, request: Request) -> Response:
        file_id = _file_id(request)
        await self._pool.call(partial(self._store.delete, file_id))
        return json_response(deletion(file_id))

    async def _get(self, request: Request) -> Any:
        return await self._pool.call(partial(self._store.get, _file_id(request)))


class _Content(FileResponse):
    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """What is no range is as if it were not there (RFC 9110, 14.2); Starlette says 400, as text."""
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []


class _FileEncoder(OpenAIEncoder):
    """What a wrapper's own `run_file_upload` has returned, with what it has left out."""

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known

    def whole(self, value: Any) -> bytes:
        if hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
        if not isinstance(value, dict):
            raise TypeError(f"{METHOD}() returned {type(value).__name__}: return a dict, with the id at least")
        made = {"id": f"file-{token_hex(12)}", "created_at": int(time())}
        return encode_json({**file_object({**made, **self._known}), **value})


def _file_id(request: Request) -> str:
    parameters = request.path_params
    return str(parameters["file_id"]) if "file_id" in parameters else f"file-{parameters['key']}"
