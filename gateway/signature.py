"""A run method's signature as the contract of its door: validation, JSON Schema, file parameters, kind of result."""

import inspect
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from docstring_parser import Docstring, parse
from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaError, from_json, to_json, to_jsonable_python
from starlette.datastructures import Headers, UploadFile
from starlette.responses import Response
from typing_extensions import TypedDict

from gateway.errors import InvalidArguments, InvalidJSON, SignatureError, WrapperRaised
from gateway.wrapper import SSEStream

MAX_FAULTS = 100  # in one reply

ResultKind = Literal["json", "text", "events", "response"]

_STREAMS = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterator)


@dataclass(frozen=True, slots=True)
class FileParameter:
    """A parameter that takes uploads: all of its name when `is_list`, else exactly one."""

    is_list: bool
    is_required: bool
    description: str


@dataclass(frozen=True, slots=True)
class FormField:
    """How the text of a form field becomes a value; read off the parameter's JSON Schema."""

    is_text: bool = False
    is_list: bool = False
    is_item_text: bool = False
    is_nullable: bool = False
    is_other: bool = False  # beside a list: a number, an object

    def parse(self, texts: Sequence[str]) -> Any:
        """One value of all the texts that came under this name."""
        if self.is_list and not (self.is_text and len(texts) == 1):
            whole = _json_or_text(texts[0]) if len(texts) == 1 else None
            is_one = self.is_other and len(texts) == 1 and not isinstance(whole, str)
            if isinstance(whole, list) or is_one or (whole is None and self.is_nullable and texts == ["null"]):
                return whole
            return [_unquote(text) if self.is_item_text else _json_or_text(text) for text in texts]
        values = [self._parse_one(text) for text in texts]
        return values[0] if len(values) == 1 else values

    def _parse_one(self, text: str) -> Any:
        if self.is_nullable and text == "null":
            return None
        return _unquote(text) if self.is_text else _json_or_text(text)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a run method takes and gives.

    `owner`: the wrapper's name. `schema`: JSON Schema (2020-12) of the arguments that are not files, an object.
    `result_schema`: of the value under `result`, `{}` when unknown. `media_type`: of the reply.
    """

    owner: str
    adapter: TypeAdapter[dict[str, Any]]
    fields: Mapping[str, FormField]
    files: Mapping[str, FileParameter]
    headers_parameter: str | None
    schema: Mapping[str, Any]
    result_kind: ResultKind
    result_schema: Mapping[str, Any]
    media_type: str
    summary: str
    description: str

    @property
    def is_body_required(self) -> bool:
        return bool(self.schema.get("required")) or any(file.is_required for file in self.files.values())

    def validate_json(self, body: bytes) -> dict[str, Any]:
        """The arguments in a JSON body; no body is an empty object when nothing is required.

        Raises `InvalidJSON` (400) or `InvalidArguments` (422).
        """
        if not body and self.is_body_required:
            raise InvalidJSON("the body is empty: send a JSON object with the arguments as its fields")
        arguments = self._validate(body or b"{}")
        if self.files:
            for name, parameter in self.files.items():
                if arguments.pop(name, None):
                    raise _refuse(name, "files are sent as multipart/form-data, not in JSON", "file_in_json")
                if parameter.is_required:
                    raise _refuse(name, "Field required: send a file as multipart/form-data", "missing")
        return arguments

    def validate_form(
        self, texts: Mapping[str, Sequence[str]], uploads: Mapping[str, Sequence[UploadFile]]
    ) -> dict[str, Any]:
        """The arguments in a form. Raises `InvalidArguments` (422)."""
        plain = FormField()
        values = {name: self.fields.get(name, plain).parse(values) for name, values in texts.items()}
        files: dict[str, Any] = {}
        for name, parameter in self.files.items():
            given, text = uploads.get(name, ()), values.pop(name, None)
            if text:
                raise _refuse(name, f"a file was expected, not text: curl -F '{name}=@path'", "file_type")
            if len(given) > 1 and not parameter.is_list:
                raise _refuse(name, f"one file was expected, {len(given)} came", "too_many_files")
            if given:
                files[name] = list(given) if parameter.is_list else given[0]
            elif parameter.is_required:
                raise _refuse(name, "Field required", "missing")
        for name in uploads.keys() - self.files.keys():
            takes = f"files go into {', '.join(self.files)}" if self.files else "this wrapper takes no files"
            raise _refuse(name, f"no file was expected here: {takes}", "unexpected_file")
        return {**self._validate(to_json(values)), **files}

    def _validate(self, body: bytes) -> dict[str, Any]:
        try:
            return self.adapter.validate_json(body)
        except ValidationError as error:
            raise _explain(error) from None
        except BaseException as error:  # out of a validator of the wrapper's own: it must not end the server
            raise WrapperRaised(f"wrapper {self.owner} failed") from error


def read_signature(owner: str, function: Callable[..., Any]) -> Signature:
    """The signature of a wrapper's bound method.

    Raises `SignatureError` with a sentence that names the wrapper `owner`, the parameter and the fix.
    """
    where = f"wrapper {owner}: {function.__name__}()"
    try:
        signature = inspect.signature(function, eval_str=True)
    except Exception as error:
        raise SignatureError(f"{where}: an annotation cannot be resolved: {error}") from error
    documentation = parse(inspect.getdoc(function) or "")
    notes = {note.arg_name: note.description or "" for note in documentation.params}
    hints: dict[str, Any] = {}
    files: dict[str, FileParameter] = {}
    headers_parameter = None
    for parameter in signature.parameters.values():
        annotation = _check(where, parameter)
        name, note = parameter.name, notes.get(parameter.name, "")
        kinds = [item for item in _leaves(annotation) if isinstance(item, type)]
        if any(issubclass(kind, Headers) for kind in kinds):
            headers_parameter = name
        elif any(issubclass(kind, UploadFile) for kind in kinds):
            is_required = parameter.default is parameter.empty
            files[name] = FileParameter(_is_list(annotation), is_required, note)
        else:
            hints[name] = _hint(parameter, annotation, note)
    adapter, schema = _build(where, owner, hints, files)
    kind, media_type, result_schema = _read_result(function, signature.return_annotation)
    return Signature(
        owner=owner,
        adapter=adapter,
        fields={name: _form_field(schema["properties"][name], schema.get("$defs", {})) for name in hints},
        files=files,
        headers_parameter=headers_parameter,
        schema=schema,
        result_kind=kind,
        result_schema=result_schema,
        media_type=media_type,
        summary=documentation.short_description or "",
        description=_describe(documentation),
    )


def _check(where: str, parameter: inspect.Parameter) -> Any:
    name = parameter.name
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise SignatureError(
            f"{where} takes {parameter}: name and annotate each parameter, so that it can be described"
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise SignatureError(f"{where}: parameter {name!r} is positional-only: remove the '/' from the signature")
    if parameter.annotation is parameter.empty:
        raise SignatureError(f"{where}: parameter {name!r} has no annotation: write {name}: str, or the type it takes")
    return parameter.annotation


def _hint(parameter: inspect.Parameter, annotation: Any, note: str) -> Any:
    if parameter.default is parameter.empty:
        return Required[Annotated[annotation, Field(description=note or None)]]
    try:
        extra = {"default": to_jsonable_python(parameter.default, exclude_none=False)}
    except Exception:  # a default that JSON cannot show is still the method's own default
        extra = {}
    return NotRequired[Annotated[annotation, Field(description=note or None, json_schema_extra=extra)]]


def _build(
    where: str, owner: str, hints: dict[str, Any], files: Mapping[str, FileParameter]
) -> tuple[TypeAdapter[dict[str, Any]], dict[str, Any]]:
    """The validator of the request's fields, and their JSON Schema.

    A TypedDict, because its keys may be any name (`schema`, `copy`, `model_config`), and because a key that is left
    out stays out, so that the method's own default applies. Files are let through to be refused with a better word.
    """

    def adapt(fields: dict[str, Any]) -> TypeAdapter[dict[str, Any]]:
        make: Any = TypedDict
        arguments = make("Arguments", fields)
        arguments.__pydantic_config__ = ConfigDict(title=f"Arguments of {owner}")
        return TypeAdapter(arguments)

    def describe(fields: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "properties": {}, **adapt(fields).json_schema()}

    try:
        return adapt(hints | dict.fromkeys(files, NotRequired[Any])), describe(hints)
    except (PydanticUserError, SchemaError, TypeError) as error:
        for name, hint in hints.items():
            try:
                describe({name: hint})
            except (PydanticUserError, SchemaError, TypeError):
                shown = inspect.formatannotation(get_args(get_args(hint)[0])[0])
                message = f"{where}: parameter {name!r}: {shown} cannot be described as JSON Schema"
                raise SignatureError(f"{message}: use a type that JSON has, or a pydantic model") from error
        raise SignatureError(f"{where}: {error}") from error


def _read_result(function: Callable[..., Any], annotation: Any) -> tuple[ResultKind, str, dict[str, Any]]:
    origin = get_origin(annotation) or annotation
    is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if is_generator or origin in _STREAMS:
        return "text", "text/plain", {}
    if inspect.isclass(origin) and issubclass(origin, SSEStream):
        return "events", "text/event-stream", {}
    if inspect.isclass(origin) and issubclass(origin, Response):
        return "response", origin.media_type or "*/*", {}
    members = [get_origin(member) or member for member in get_args(annotation)]
    if origin in (Union, types.UnionType) and any(_is_no_json(member) for member in members):
        return "json", "application/json", {}  # decided when it runs
    if origin is inspect.Signature.empty or any(hasattr(leaf, "to_dict") for leaf in _leaves(annotation)):
        return "json", "application/json", {}  # Haystack's classes are sent as their to_dict() gives them
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        return "json", "application/json", adapter.json_schema(mode="serialization")
    except (PydanticUserError, SchemaError, TypeError):
        return "json", "application/json", {}


def _is_no_json(kind: Any) -> bool:
    return kind in _STREAMS or (inspect.isclass(kind) and issubclass(kind, Response | SSEStream))


def _leaves(annotation: Any) -> list[Any]:
    """`list[UploadFile] | None` → `[UploadFile, NoneType]`."""
    arguments = [] if get_origin(annotation) is Literal else get_args(annotation)
    return [leaf for argument in arguments for leaf in _leaves(argument)] or [annotation]


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType, Annotated):
        return any(_is_list(argument) for argument in get_args(annotation))
    return inspect.isclass(origin) and issubclass(origin, Sequence)


def _form_field(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> FormField:
    kinds = list(_alternatives(schema, definitions))
    items = [kind.get("items", {}) for kind in kinds if kind.get("type") == "array"]
    return FormField(
        is_text=any(_admits_text(kind) for kind in kinds),
        is_list=bool(items),
        is_item_text=any(_admits_text(kind) for item in items for kind in _alternatives(item, definitions)),
        is_nullable=any(kind.get("type") == "null" for kind in kinds),
        is_other=bool(items) and any(kind.get("type") in ("object", "number", "integer", "boolean") for kind in kinds),
    )


def _alternatives(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> typing.Iterator[Mapping[str, Any]]:
    choices = schema.get("anyOf") or schema.get("oneOf") or ()
    for choice in choices:
        yield from _alternatives(choice, definitions)
    if "$ref" in schema:
        yield from _alternatives(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    elif not choices:
        yield schema


def _admits_text(schema: Mapping[str, Any]) -> bool:
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return schema.get("type") == "string" or any(isinstance(value, str) for value in values)


def _unquote(text: str) -> str:
    """`"Summarize this"` with its quotes, as `curl -F 'query="Summarize this"'` sends it, without them."""
    value = _json_or_text(text) if text[:1] == '"' else text
    return value if isinstance(value, str) else text


def _json_or_text(text: str) -> Any:
    try:
        return from_json(text)
    except ValueError:
        return text


def _describe(documentation: Docstring) -> str:
    parts = (documentation.short_description, documentation.long_description)
    return "\n\n".join(part for part in parts if part)


def _refuse(name: str, message: str, kind: str) -> InvalidArguments:
    detail = {"loc": f"body.{name}", "message": message, "type": kind}
    return InvalidArguments(f"body.{name}: {message}", details=[detail])


def _explain(error: ValidationError) -> InvalidArguments | InvalidJSON:
    if error.error_count() > MAX_FAULTS:  # listing millions of them would take longer than finding them
        return InvalidArguments(f"body: {error.error_count()} values do not fit; send fewer to see which", details=[])
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first = faults[0]
    if first["type"] == "json_invalid" and not first["loc"]:
        return InvalidJSON(f"the body is not valid JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if first["type"] == "dict_type" and not first["loc"]:
        return InvalidArguments(
            "the body must be a JSON object with the arguments as its fields",
            details=[{"loc": "body", "message": "Input should be an object", "type": "object_type"}],
        )
    details = [
        {"loc": ".".join(["body", *map(str, fault["loc"])]), "message": fault["msg"], "type": fault["type"]}
        for fault in faults
    ]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return InvalidArguments(f"{details[0]['loc']}: {details[0]['message']}{more}", details=details)
