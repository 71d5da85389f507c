"""A request's body as the arguments of a run method, within the limits."""

from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import Any

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.types import Receive

from gateway.errors import CallerGone, InvalidMultipart, TooLarge, UnsupportedMediaType
from gateway.run import Run
from gateway.settings import Settings
from gateway.signature import Signature
from gateway.thread import ThreadPool

MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
LARGE_JSON_BYTES = 256 * 1024  # parsing more than this takes a millisecond and is done on a thread


class BodyReader:
    """Reads bodies of run requests. Uploads stay open until the run ends; beyond 1 MiB they lie on disk."""

    def __init__(self, settings: Settings, pool: ThreadPool) -> None:
        self._settings = settings
        self._pool = pool

    async def read_arguments(
        self, receive: Receive, headers: Headers, signature: Signature, run: Run
    ) -> dict[str, Any]:
        """The arguments that the method gets.

        Raises `InvalidJSON`, `InvalidMultipart` (400), `TooLarge` (413, before the rest is read),
        `UnsupportedMediaType` (415), `InvalidArguments` (422), `CallerGone`.
        """
        media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type in (MULTIPART, URLENCODED):
            arguments = await self._read_form(receive, headers, signature, run, media_type)
        elif media_type == "application/json" or media_type.endswith("+json"):
            chunks = _limited(receive, headers, self._settings.max_body_bytes, "max_body_bytes")
            body = b"".join([chunk async for chunk in chunks])
            if len(body) > LARGE_JSON_BYTES:
                arguments = await self._pool.call(partial(signature.validate_json, body))
            else:
                arguments = signature.validate_json(body)
        else:
            message = f"Content-Type {media_type} is not supported: send application/json or {MULTIPART}"
            raise UnsupportedMediaType(message)
        if signature.headers_parameter is not None:
            arguments[signature.headers_parameter] = headers
        return arguments

    async def _read_form(
        self, receive: Receive, headers: Headers, signature: Signature, run: Run, media_type: str
    ) -> dict[str, Any]:
        parser: _MultiPartParser | FormParser
        settings = self._settings
        if media_type == MULTIPART:
            chunks = _limited(receive, headers, settings.max_upload_bytes, "max_upload_bytes")
            parser = _MultiPartParser(headers, chunks, settings)
        else:
            chunks = _limited(receive, headers, settings.max_body_bytes, "max_body_bytes")
            parser = FormParser(
                headers, chunks, max_fields=settings.max_form_fields, max_part_size=settings.max_body_bytes
            )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise InvalidMultipart(f"the body is not a valid form: {error.message}") from None
        texts: dict[str, list[str]] = {}
        uploads: dict[str, list[UploadFile]] = {}
        files: list[UploadFile] = []
        for name, value in form.multi_items():
            if isinstance(value, str):
                texts.setdefault(name, []).append(value)
                continue
            files.append(value)
            if value.filename or value.size:  # else a browser's form, in which no file was chosen
                uploads.setdefault(name, []).append(value)
        if files:
            run.on_end(partial(self._pool.start, partial(_close, files)))
        if media_type == URLENCODED and any(name.lstrip().startswith("{") for name in texts):
            message = f"the body looks like JSON but its Content-Type is {URLENCODED}"
            raise UnsupportedMediaType(f"{message}: add the header 'Content-Type: application/json'")
        return signature.validate_form(texts, uploads)


class _MultiPartParser(MultiPartParser):
    """Starlette's parser, which takes a body that stops in the middle for a whole one and limits text by the part.

    Text is UTF-8: a `charset` of the whole body means nothing (RFC 7578, 4.6 and 5.1.2), and some codecs raise.
    """

    _charset = property(lambda self: "utf-8", lambda self, value: None)

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], settings: Settings) -> None:
        super().__init__(
            headers,
            stream,
            max_files=settings.max_upload_files,
            max_fields=settings.max_form_fields,
            max_part_size=settings.max_body_bytes,
        )
        self._is_complete = False
        self._text_bytes = 0

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self._text_bytes += end - start
            if self._text_bytes > self.max_part_size:
                raise TooLarge(f"the form's text fields are larger than max_body_bytes = {self.max_part_size}")
        super().on_part_data(data, start, end)

    def on_end(self) -> None:
        self._is_complete = True

    async def parse(self) -> FormData:
        form = await super().parse()
        if not self._is_complete:
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("it ends in the middle, without its closing boundary")
        return form


async def _limited(receive: Receive, headers: Headers, limit: int, setting: str) -> AsyncGenerator[bytes, None]:
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLarge(f"the body is larger than {setting} = {limit} bytes")
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone("the caller has left before the end of its request")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is larger than {setting} = {limit} bytes")
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


def _close(files: Iterable[UploadFile]) -> None:
    for upload in files:
        upload.file.close()
