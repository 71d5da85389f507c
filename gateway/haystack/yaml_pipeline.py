"""A Haystack pipeline in YAML → a wrapper. Beside it: `inputs`, `outputs`, `streaming_components` and `chat`."""

import inspect
import keyword
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from haystack import Pipeline
from haystack.dataclasses import ByteStream, ChatMessage
from pydantic import TypeAdapter
from starlette.datastructures import UploadFile

from gateway.errors import InvalidRequest, LoadError
from gateway.haystack.convert import chat_messages_from_openai
from gateway.haystack.inputs import coerce_pipeline_inputs
from gateway.haystack.message import get_last_user_message
from gateway.haystack.streaming import AsyncSource, async_streaming_generator
from gateway.haystack.yaml_source import parse_yaml
from gateway.wrapper import BasePipelineWrapper

OURS = ("inputs", "outputs", "streaming_components", "chat")
FILE_INPUTS = ("sources", "files")
QUESTION_INPUTS = ("query", "question")
_CALLBACK = "streaming_callback"

Sockets = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Input:
    """A declared input. `targets`: (component, socket) of each that gets the value. `default`: of the first of them."""

    targets: tuple[tuple[str, str], ...]
    kind: Any
    is_required: bool
    default: Any
    is_file: bool


class YAMLPipelineWrapper(BasePipelineWrapper):
    """`run_api_async` takes the declared inputs and gives the declared outputs.

    A pipeline whose last streaming component is a chat generator answers chats too, when an input called `messages`,
    `query` or `question` is all that it needs, or as a `chat` section says: `{input: NAME}` for the last question,
    `{messages: NAME}` for the conversation, `false` for no chat.
    """

    def __init__(self, source: str) -> None:
        """Raises `LoadError` in one sentence, for whatever is wrong with it."""
        data = parse_yaml(source)
        self.pipeline = _load_pipeline({key: value for key, value in data.items() if key not in OURS})
        self._inputs = _read_inputs(_section(data, "inputs"), self.pipeline.inputs())
        self._outputs = _read_outputs(_section(data, "outputs"), _all_outputs(self.pipeline))
        self._streaming = _read_streaming(data.get("streaming_components"), self.pipeline)
        self.run_api_async = self._make_run()
        self._chat_input, self._takes_messages = self._read_chat(data.get("chat"))
        if self._chat_input is not None:
            self.run_chat_completion_async = self._make_chat()

    def setup(self) -> None:
        self.pipeline.warm_up()

    def close(self) -> None:
        self.pipeline.close()

    def _make_run(self) -> Callable[..., Any]:
        async def run_api_async(**arguments: Any) -> dict[str, Any]:
            result = await self.pipeline.run_async(
                self._data(arguments), include_outputs_from={component for component, _ in self._outputs.values()}
            )
            if not self._outputs:
                return dict(result)
            return {name: result.get(component, {}).get(key) for name, (component, key) in self._outputs.items()}

        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=declared.kind,
                default=inspect.Parameter.empty if declared.is_required else declared.default,
            )
            for name, declared in self._inputs.items()
        ]
        run_api_async.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            parameters, return_annotation=dict[str, Any]
        )
        return run_api_async

    def _data(self, arguments: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The arguments where `Pipeline.run` wants them."""
        data: dict[str, dict[str, Any]] = {}
        for name, value in arguments.items():
            declared = self._inputs[name]
            given = [_to_stream(file) for file in value or ()] if declared.is_file else value
            for component, socket in declared.targets:
                data.setdefault(component, {})[socket] = given
        try:
            return coerce_pipeline_inputs(self.pipeline, data)
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidRequest(f"an input does not fit: {error}") from None

    def _read_chat(self, section: Any) -> tuple[str | None, bool]:
        """The input that a chat goes into, None for no chat, and whether it takes the whole conversation."""
        if section is False:
            return None, False
        if section is not None:
            keys = section.keys() & {"input", "messages"} if isinstance(section, Mapping) else ()
            if len(keys) != 1 or len(section) != 1:
                raise LoadError("chat must name one input: {input: NAME} for the question, or {messages: NAME}")
            (key,) = keys
            if section[key] not in list(self._inputs):  # it may be anything, also what has no hash
                raise LoadError(f"chat.{key} names {section[key]!r}, which is no declared input: {list(self._inputs)}")
            return section[key], key == "messages"
        name = next((name for name in ("messages", *QUESTION_INPUTS) if name in self._inputs), None)
        others = [other for other, declared in self._inputs.items() if declared.is_required and other != name]
        if name is None or others or not self._ends_in_chat():
            return None, False
        return name, name == "messages"

    def _ends_in_chat(self) -> bool:
        streaming = _streaming_components(self.pipeline)
        return bool(streaming) and "replies" in _all_outputs(self.pipeline)[streaming[-1]]

    def _make_chat(self) -> Callable[..., Any]:
        async def run_chat_completion_async(
            model: str, messages: list[dict[str, Any]], body: dict[str, Any]
        ) -> AsyncSource:
            assert self._chat_input is not None
            if self._takes_messages:
                value: list[ChatMessage] | str = chat_messages_from_openai(messages)
            else:
                value = get_last_user_message(messages) or ""
            return async_streaming_generator(
                self.pipeline,
                pipeline_run_args=self._data({self._chat_input: value}),
                streaming_components=self._streaming,
            )

        return run_chat_completion_async


def _load_pipeline(data: dict[str, Any]) -> Pipeline:
    if not isinstance(data.get("components"), dict) or not data["components"]:
        raise LoadError("the YAML has no components: it must be a mapping with components and connections")
    try:
        return Pipeline.from_dict(data)
    except Exception as error:  # Haystack's, or of a component's own code, given parameters that are not its own
        # Without its cause, which would be logged: it repeats the parameters.
        raise LoadError(f"the pipeline cannot be made: {_explain(error)}") from None


def _explain(error: BaseException) -> str:
    """Its first line and that of its cause. What follows repeats the parameters, in which a secret may stand."""
    lines = [next(iter(str(each).strip().splitlines()), "") for each in (error, error.__cause__) if each is not None]
    said = [line.removesuffix(" with the following data:").partition(" If you trust the source")[0] for line in lines]
    return ": ".join(line or type(error).__name__ for line in said)


def _streaming_components(pipeline: Pipeline) -> list[str]:
    inputs = pipeline.inputs(include_components_with_connected_inputs=True)
    return [name for name, _ in pipeline.walk() if _CALLBACK in inputs.get(name, {})]


def _all_outputs(pipeline: Pipeline) -> Sockets:
    return pipeline.outputs(include_components_with_connected_outputs=True)


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = {} if data.get(name) is None else data[name]
    if not isinstance(section, Mapping) or not all(isinstance(key, str) for key in section):
        raise LoadError(f"{name} must be a mapping of names to component.socket")
    return section


def _read_paths(where: str, value: Any) -> list[tuple[str, str]]:
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and "." in path for path in paths):
        raise LoadError(f"{where} must be component.socket, or a list of those, not {value!r}")
    pairs = [path.rpartition(".") for path in dict.fromkeys(paths)]
    return [(component, socket) for component, _, socket in pairs]


def _check_path(where: str, component: str, socket: str, sockets: Sockets) -> None:
    if component not in sockets:
        raise LoadError(f"{where}: there is no component {component!r}; there are {', '.join(sockets)}")
    if socket not in sockets[component]:
        known = ", ".join(sockets[component])
        raise LoadError(f"{where}: {component} has no socket {socket!r} that is free; it has {known}")


def _read_inputs(section: Mapping[str, Any], sockets: Sockets) -> dict[str, _Input]:
    taken: dict[tuple[str, str], str] = {}
    inputs = {}
    for name, value in section.items():
        if not name.isidentifier() or keyword.iskeyword(name):
            raise LoadError(f"inputs.{name}: the name of an input is letters, digits and '_', and no word of Python")
        targets = _read_paths(f"inputs.{name}", value)
        for target in targets:
            _check_path(f"inputs.{name}", *target, sockets)
            if target in taken:
                raise LoadError(f"inputs.{name}: {'.'.join(target)} is taken by inputs.{taken[target]} already")
            taken[target] = name
        first = [sockets[component][socket] for component, socket in targets]
        is_file = name in FILE_INPUTS and ByteStream in _leaves(first[0]["type"])
        inputs[name] = _Input(
            targets=tuple(targets),
            kind=list[UploadFile] if is_file else _to_argument(first[0]["type"]),
            is_required=any(socket["is_mandatory"] for socket in first),
            default=first[0].get("default_value"),
            is_file=is_file,
        )
    return inputs


def _read_outputs(section: Mapping[str, Any], sockets: Sockets) -> dict[str, tuple[str, str]]:
    outputs = {}
    for name, value in section.items():
        paths = _read_paths(f"outputs.{name}", value)
        if len(paths) > 1:
            raise LoadError(f"outputs.{name} must be one component.socket, not {len(paths)}")
        _check_path(f"outputs.{name}", *paths[0], sockets)
        outputs[name] = paths[0]
    return outputs


def _read_streaming(value: Any, pipeline: Pipeline) -> Any:
    if value is None or value == "all":
        return value
    names = _streaming_components(pipeline)
    if not isinstance(value, list) or not all(name in names for name in value):
        there = f"there are {', '.join(names)}" if names else "there is none"
        raise LoadError(f"streaming_components must be all, or a list of components that stream; {there}")
    return value


def _leaves(kind: Any) -> Iterable[Any]:
    arguments = get_args(kind)
    return [leaf for argument in arguments for leaf in _leaves(argument)] or [kind]


def _to_argument(kind: Any) -> Any:
    """The socket's type where JSON can say it. Haystack's own classes are mappings there."""
    leaves = _leaves(kind)
    if any(hasattr(leaf, "from_dict") for leaf in leaves) and str in leaves:
        return Any  # else a form and the command line would take a list of messages for one text
    kind = _without_classes(kind)
    try:
        TypeAdapter(kind).json_schema()
    except Exception:  # pydantic has many ways to say no
        return Any
    return kind


def _without_classes(kind: Any) -> Any:
    """`list[ChatMessage] | str` → `list[dict[str, Any]] | str`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if hasattr(kind, "from_dict"):
        return dict[str, Any]
    if origin in (Union, UnionType):
        return Union[tuple(map(_without_classes, arguments))]  # noqa: UP007 - of a tuple
    return list[_without_classes(arguments[0])] if origin is list else kind  # type: ignore[misc]


def _to_stream(file: UploadFile) -> ByteStream:
    meta = {"file_name": file.filename, "file_path": file.filename}
    return ByteStream(file.file.read(), meta=meta, mime_type=file.content_type)
