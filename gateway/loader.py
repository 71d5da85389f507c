"""A folder → an imported `PipelineWrapper`, as a private package, from where it stands.

Every wrapper is the package `gateway_wrappers.<name>_<generation>`: it can shadow nobody's module, and two generations
can live side by side. Its modules are compiled from their source at each import: bytecode is neither read (an edit in
the same second and of the same size would load stale code) nor written (the folder is the user's).
"""

import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import gateway
from gateway.errors import LoadError
from gateway.registry import Method
from gateway.signature import read_signature
from gateway.source import ENTRY_MODULE, Found

ROOT = "gateway_wrappers"
_TAKING = threading.Lock()
RUN_METHODS = {  # with the keyword arguments that the gateway calls them with; those of `run_api` are its own
    "run_api": (),
    "run_chat_completion": ("model", "messages", "body"),
    "run_response": ("model", "input_items", "body"),
    "run_embedding": ("model", "inputs", "body"),
    "run_file_upload": ("filename", "content_type", "content", "purpose"),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An imported wrapper before its `setup`. `package`: None for a YAML pipeline."""

    package: str | None
    instance: Any
    methods: Mapping[str, Method]


def share_code(folder: Path | None) -> None:
    """Let wrappers import from this folder: behind all else, so that it shadows no module."""
    if folder is not None and str(folder.absolute()) not in sys.path:
        sys.path.append(str(folder.absolute()))


def load(found: Found, package: str | None) -> Loaded:
    """Import the wrapper and make its instance. On a thread; one at a time, so that imports are deterministic.

    `package`: what `take_package` has given, None for a YAML pipeline.

    Raises `LoadError` with the file and line; nothing of the wrapper is left in `sys.modules` then.
    """
    return _load_yaml(found) if package is None else _load_package(found.name, found.path, package)


def _load_yaml(found: Found) -> Loaded:
    try:
        instance = gateway.YAMLPipelineWrapper(found.path.read_text(encoding="utf-8-sig"))
        return Loaded(None, instance, _read_methods(found.name, instance))
    except BaseException as error:  # of a component's own code
        is_told = isinstance(error, LoadError | OSError | UnicodeDecodeError)
        said = str(error) if is_told else describe_failure(error, found.path)
        raise LoadError(f"{found.path.name}: {said}") from None  # a traceback would repeat the parameters


def _load_package(name: str, folder: Path, package: str) -> Loaded:
    try:
        module = _import(package, folder)
        kind = getattr(module, "PipelineWrapper", None)
        if not inspect.isclass(kind):
            raise LoadError(f"{ENTRY_MODULE}.py defines no class PipelineWrapper")
        instance = kind()
        return Loaded(package, instance, _read_methods(name, instance))
    except BaseException as error:
        unload(package)
        if isinstance(error, LoadError):
            raise
        raise LoadError(describe_failure(error, folder)) from error


def unload(package: str | None) -> None:
    """Forget the wrapper's modules, and its components in Haystack's registry, which would keep them alive."""
    if package is None:
        return
    inside = package + "."
    for module in [key for key in list(sys.modules) if key == package or key.startswith(inside)]:  # others import
        del sys.modules[module]
    haystack = sys.modules.get("haystack.core.component")
    registry: dict[str, Any] = haystack.component.registry if haystack is not None else {}
    for key in [key for key in list(registry) if key.startswith(inside)]:
        del registry[key]


def describe_failure(error: BaseException, folder: Path) -> str:
    """One sentence: the last line of the user's files that the exception went through, and what it says."""
    lines = traceback.format_exception_only(error)
    said = lines[-1 if isinstance(error, SyntaxError) else 0].strip().partition("\n")[0]
    if isinstance(error, SyntaxError) and error.filename:
        line = "" if error.lineno is None else f", line {error.lineno}"
        return f"{_relative(error.filename, folder)}{line}: {said}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(folder):
            return f"{_relative(frame.filename, folder)}, line {frame.lineno}: {said}"
    return said


def _relative(filename: str, folder: Path) -> str:
    path = Path(filename)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else filename


def take_package(name: str, generation: int, stuck: Container[str | None] = ()) -> str:
    """A name for the modules of a generation, until `unload`. `stuck`: those that are still being imported somewhere.

    Another app in this process may serve, or be loading, a wrapper of the same name and generation.
    """
    package = f"{ROOT}.{name}_{generation}"
    with _TAKING:
        while package in sys.modules or package in stuck:
            package += "_"
        sys.modules[package] = ModuleType(package)
    return package


def _import(package: str, folder: Path) -> ModuleType:
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    if ROOT not in sys.modules:
        root = ModuleType(ROOT, "The parent of all wrapper packages.")
        root.__path__ = []
        sys.modules[ROOT] = root
    init = folder / "__init__.py"
    spec = spec_from_file_location(
        package, init, loader=_SourceLoader(package, str(init)), submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    module = sys.modules[package] = module_from_spec(spec)
    if init.is_file():
        assert spec.loader is not None
        spec.loader.exec_module(module)
    __import__(f"{package}.{ENTRY_MODULE}")
    return sys.modules[f"{package}.{ENTRY_MODULE}"]


class _SourceLoader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        try:
            code: CodeType = self.source_to_code(self.get_data(path), path)
        except (SyntaxError, ValueError) as error:  # a null byte: Python does not say where
            if isinstance(error, SyntaxError) and error.filename:
                raise
            raise SyntaxError(str(error), (path, None, None, None)) from None
        return code


class _Finder:
    """Finds the modules of wrapper packages, now and when one is imported an hour later."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith(ROOT + ".") or not path:
            return None
        loaders = (ExtensionFileLoader, EXTENSION_SUFFIXES), (_SourceLoader, SOURCE_SUFFIXES)
        return FileFinder(path[0], *loaders).find_spec(fullname)


def _read_methods(name: str, instance: Any) -> dict[str, Method]:
    methods = {}
    for sync_name in RUN_METHODS:
        for method_name in (f"{sync_name}_async", sync_name):
            call = getattr(instance, method_name, None)
            if callable(call) and not _is_placeholder(call):
                is_async = inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
                if method_name != sync_name and not is_async:
                    raise LoadError(f"wrapper {name}: {method_name}() must be written with 'async def'")
                methods[sync_name] = _read_method(name, sync_name, call, is_async=is_async)
                break
    most = getattr(instance, "max_choices", 1)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise LoadError(f"wrapper {name}: max_choices must be a whole number from 1, not {most!r}")
    if not methods:
        raise LoadError(f"PipelineWrapper has no run method: define one of {', '.join(RUN_METHODS)}")
    return methods


def _read_method(name: str, method: str, call: Callable[..., Any], *, is_async: bool) -> Method:
    if method == "run_api":
        signature = read_signature(name, call)
        return Method(method, call, is_async, signature, signature.headers_parameter)
    arguments = RUN_METHODS[method]
    parameters = inspect.signature(call)
    takes_headers = "headers" in parameters.parameters
    try:
        parameters.bind(**dict.fromkeys((*arguments, "headers") if takes_headers else arguments))
    except TypeError as error:
        expected = ", ".join(arguments)
        message = f"wrapper {name}: {call.__name__}() must take {expected} as keyword arguments"
        raise LoadError(f"{message}, and may take headers: {error}") from None
    return Method(method, call, is_async, None, "headers" if takes_headers else None)


def _is_placeholder(call: Any) -> bool:
    """A base class may define the run methods to say that they are not implemented, as Hayhooks' does."""
    return str(getattr(call, "__qualname__", "")).startswith("BasePipelineWrapper.")
