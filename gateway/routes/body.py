"""A request's body, read within the limits."""

from collections.abc import AsyncGenerator, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from pydantic_core import from_json
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.types import Receive

from gateway.errors import CallerGone, InvalidJSON, InvalidMultipart, TooLarge, UnsupportedMediaType
from gateway.run import Run
from gateway.settings import Settings
from gateway.signature import Signature
from gateway.thread import ThreadPool

MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
T = TypeVar("T")
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
        media_type = _media_type(headers)
        if media_type in (MULTIPART, URLENCODED):
            texts, uploads = await self.read_form(receive, headers, run)
            return signature.validate_form(texts, uploads)
        if _is_json(media_type):
            return await self._read_json(receive, headers, signature.validate_json)
        message = f"Content-Type {media_type} is not supported: send application/json or {MULTIPART}"
        raise UnsupportedMediaType(message)

    async def read_json(self, receive: Receive, headers: Headers, parse: Callable[[Any], T]) -> T:
        """What `parse` makes of the value of a JSON body; on a thread when the body is large.

        Raises what `parse` raises, `InvalidJSON` (400), `TooLarge` (413, before the rest is read),
        `UnsupportedMediaType` (415), `CallerGone`.
        """
        media_type = _media_type(headers)
        if not _is_json(media_type):
            message = f"Content-Type {media_type} is not supported: add the header 'Content-Type: application/json'"
            raise UnsupportedMediaType(message)
        return await self._read_json(receive, headers, lambda body: parse(_parse_json(body)))

    async def _read_json(self, receive: Receive, headers: Headers, parse: Callable[[bytes], T]) -> T:
        chunks = _limited(receive, headers, self._settings.max_body_bytes, "max_body_bytes")
        body = b"".join([chunk async for chunk in chunks])
        if len(body) <= LARGE_JSON_BYTES:
            return parse(body)
        parsed: T = await self._pool.call(partial(parse, body))
        return parsed

    async def read_form(
        self, receive: Receive, headers: Headers, run: Run, max_files: int | None = None
    ) -> tuple[dict[str, list[str]], dict[str, list[UploadFile]]]:
        """The text fields and the files of a form, by name. The files stay open until `run` ends.

        `max_files`: None = the setting `max_upload_files`. Each file may hold 1 MiB of memory.

        Raises `InvalidMultipart` (400), `TooLarge` (413), `UnsupportedMediaType` (415), `CallerGone`.
        """
        parser: _MultiPartParser | FormParser
        settings = self._settings
        media_type = _media_type(headers)
        if media_type == MULTIPART:
            chunks = _limited(receive, headers, settings.max_upload_bytes, "max_upload_bytes")
            parser = _MultiPartParser(headers, chunks, settings, max_files or settings.max_upload_files)
        elif media_type != URLENCODED:
            raise UnsupportedMediaType(f"Content-Type {media_type} is not supported: send {MULTIPART}")
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
        return texts, uploads


class _MultiPartParser(MultiPartParser):
    """Starlette's parser, which takes a body that stops in the middle for a whole one and limits text by the part.

    Text is UTF-8: a `charset` of the whole body means nothing (RFC 7578, 4.6 and 5.1.2), and some codecs raise.
    """

    _charset = property(lambda self: "utf-8", lambda self, value: None)

    def __init__(
        self, headers: Headers, stream: AsyncGenerator[bytes, None], settings: Settings, max_files: int
    ) -> None:
        super().__init__(
            headers,
            stream,
            max_files=max_files,
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


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "application/json").partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def _parse_json(body: bytes) -> Any:
    if not body:
        raise InvalidJSON("the body is empty: send a JSON object")
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidJSON(f"the body is not valid JSON: {error}") from None


def _close(files: Iterable[UploadFile]) -> None:
    for upload in files:
        upload.file.close()
