"""The loader by itself. Through a real server: `tests/test_deployer.py`."""

import gc
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import loader
from gateway.errors import LoadError
from gateway.loader import ROOT, Loaded, take_package, unload
from gateway.source import Found, check_name, scan
from tests.gateways import write_wrapper

SOURCE = """
    class PipelineWrapper:
        def run_api(self) -> str:
            return "served"
"""


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """No module of a wrapper is left."""
    yield
    for name in [name for name in sys.modules if name.startswith(ROOT + ".")]:
        del sys.modules[name]


def load(found: Found, generation: int) -> Loaded:
    return loader.load(found, take_package(found.name, generation))


def wrapper_modules() -> list[str]:
    return [name for name in sys.modules if name.startswith(ROOT + ".")]


@pytest.mark.parametrize("name", ["a", "A1", "my_pipeline", "my-pipeline", "0", "x" * 64, "openai", "chat", "files"])
def test_check_name_accepts(name: str) -> None:
    assert check_name(name) is None


@pytest.mark.parametrize("name", ["", "_a", "-a", ".a", "a.b", "a b", "a/b", "..", "grün", "x" * 65, "a\n", "a%2fb"])
def test_check_name_refuses_what_no_path_can_hold(name: str) -> None:
    assert check_name(name) == (f"the name {name!r} cannot be served: use letters, digits, '_' and '-', 64 at most")


@pytest.mark.parametrize(
    "name",
    ["v1", "status", "draw", "undeploy", "rollback", "models", "docs", "metrics", "livez", "readyz", "mcp", "a2a"],
)
def test_check_name_refuses_reserved_words(name: str) -> None:
    assert check_name(name) == f"the name {name!r} is reserved for the gateway's own paths: rename the folder"


def test_scan_finds_wrapper_folders_in_order(tmp_path: Path) -> None:
    for name in ("b", "a", "status", "grün", ".hidden", "__pycache__"):
        write_wrapper(tmp_path, name, SOURCE)
    (tmp_path / "no_wrapper").mkdir()
    (tmp_path / "a_folder" / "pipeline_wrapper.py").mkdir(parents=True)
    (tmp_path / "pipeline_wrapper.py").write_text("")
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert scan(tmp_path) == [
        Found(name, tmp_path / name, check_name(name)) for name in ("a", "b", "grün", "linked", "status")
    ]


REFUSED = {
    "import": (
        "import no_such_module",
        "pipeline_wrapper.py, line 1: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "syntax": ("x = 1\ndef :", "pipeline_wrapper.py, line 2: SyntaxError: invalid syntax"),
    "raise": ("x = 1\nraise KeyError('x')", "pipeline_wrapper.py, line 2: KeyError: 'x'"),
    "exit": ("raise SystemExit(3)", "pipeline_wrapper.py, line 1: SystemExit: 3"),
    "interrupt": ("raise KeyboardInterrupt", "pipeline_wrapper.py, line 1: KeyboardInterrupt"),
    "library": ("import json\njson.loads('{')", "pipeline_wrapper.py, line 2: json.decoder.JSONDecodeError: "),
    "several lines": ("raise ValueError('first\\nsecond')", "pipeline_wrapper.py, line 1: ValueError: first"),
    "pydantic": (
        "import pydantic\npydantic.TypeAdapter(int).validate_python('x')",
        "pipeline_wrapper.py, line 2: pydantic_core._pydantic_core.ValidationError: 1 validation error for int",
    ),
    "note": ("e = ValueError('said')\ne.add_note('a note')\nraise e", "pipeline_wrapper.py, line 3: ValueError: said"),
    "null byte": ("x = 1\n\0", "pipeline_wrapper.py"),
    "not UTF-8": (b"x = '\xff'", "pipeline_wrapper.py"),
    "empty": ("", "pipeline_wrapper.py defines no class PipelineWrapper"),
    "no class": ("PipelineWrapper = 1", "pipeline_wrapper.py defines no class PipelineWrapper"),
    "no method": (
        "class PipelineWrapper: pass",
        "PipelineWrapper has no run method: define one of run_api, run_chat_completion, run_response, ",
    ),
    "constructor": (
        "class PipelineWrapper:\n  def __init__(self): 1/0\n  def run_api(self): pass",
        "pipeline_wrapper.py, line 2: ZeroDivisionError: division by zero",
    ),
    "argument": (
        "class PipelineWrapper:\n  def __init__(self, x): pass\n  def run_api(self): pass",
        "PipelineWrapper.__init__() missing 1 required positional argument: 'x'",
    ),
    "signature": (
        "class PipelineWrapper:\n  def run_api(self, query): pass",
        "wrapper w: run_api(): parameter 'query' has no annotation: write query: str, or the type it takes",
    ),
    "async that is not": (
        "class PipelineWrapper:\n  def run_api_async(self): pass",
        "wrapper w: run_api_async() must be written with 'async def'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_load_says_why_not_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    source, said = REFUSED[case]
    folder = tmp_path / "w"
    folder.mkdir()
    content = source if isinstance(source, bytes) else source.encode()
    (folder / "pipeline_wrapper.py").write_bytes(content)
    with pytest.raises(LoadError) as caught:
        load(Found("w", folder), 1)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert (wrapper_modules(), [path.name for path in folder.iterdir()]) == ([], ["pipeline_wrapper.py"])


def test_load_names_the_sibling_that_failed(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", "from .parts import index")
    (folder / "parts").mkdir()
    (folder / "parts" / "index.py").write_text("x = 1\n1 / 0\n")
    with pytest.raises(LoadError, match=r"^parts/index\.py, line 2: ZeroDivisionError: division by zero$"):
        load(Found("w", folder), 1)
    assert wrapper_modules() == []


@pytest.mark.parametrize("most", ["'5'", "0", "True", "None", "1.5"])
def test_load_refuses_a_number_of_choices_that_is_none(tmp_path: Path, most: str) -> None:
    source = f"""
        class PipelineWrapper:
            max_choices = {most}

            def run_chat_completion(self, model, messages, body): ...
        """
    with pytest.raises(LoadError) as raised:
        load(Found("w", write_wrapper(tmp_path, "w", source)), 1)
    assert str(raised.value) == f"wrapper w: max_choices must be a whole number from 1, not {most}"


def test_load_makes_a_package_of_the_folder(tmp_path: Path) -> None:
    folder = write_wrapper(
        tmp_path,
        "w",
        """
        from pathlib import Path
        from . import NAME
        from .parts.deep import DEPTH
        from .space.inner import INNER

        class PipelineWrapper:
            data = (Path(__file__).parent / "data.txt").read_text()
            seen = (NAME, DEPTH, INNER, __name__, __package__)

            def run_api(self) -> str:
                from . import late
                return late.WORD
        """,
    )
    (folder / "__init__.py").write_text("NAME = __name__\n")
    (folder / "data.txt").write_text("data")
    (folder / "late.py").write_text("WORD = 'late'\n")
    (folder / "parts").mkdir()
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "deep.py").write_text("from .. import NAME\nDEPTH = 2\n")
    (folder / "space").mkdir()  # a package without __init__.py
    (folder / "space" / "inner.py").write_text("INNER = 3\n")
    before = sorted(path.name for path in folder.rglob("*"))
    loaded = load(Found("w", folder), 7)
    assert loaded.package == "gateway_wrappers.w_7"
    package = "gateway_wrappers.w_7"
    assert loaded.instance.seen == (package, 2, 3, f"{package}.pipeline_wrapper", package)
    assert (loaded.instance.data, loaded.methods["run_api"].call()) == ("data", "late")
    assert sorted(path.name for path in folder.rglob("*")) == before
    unload(loaded.package)
    assert wrapper_modules() == []


def test_load_keeps_generations_apart(tmp_path: Path) -> None:
    folder = write_wrapper(tmp_path, "w", SOURCE)
    first = load(Found("w", folder), 1)
    (folder / "pipeline_wrapper.py").write_text(
        (folder / "pipeline_wrapper.py").read_text().replace("served", "second")
    )
    second, again = load(Found("w", folder), 2), load(Found("w", folder), 2)
    assert [loaded.instance.run_api() for loaded in (first, second, again)] == ["served", "second", "second"]
    assert len({first.package, second.package, again.package}) == 3
    unload(second.package)
    assert again.package + ".pipeline_wrapper" in sys.modules


def test_load_reads_the_source_and_no_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder = write_wrapper(
        tmp_path, "w", SOURCE.replace('"served"', "word()").replace("class", "from .s import word\n    class")
    )
    for number in range(10):  # same size, same second
        (folder / "s.py").write_text(f"def word(): return {number}\n")
        assert load(Found("w", folder), number).instance.run_api() == number
    assert sorted(path.name for path in folder.iterdir()) == ["pipeline_wrapper.py", "s.py"]


@pytest.mark.parametrize("name", ["openai", "json", "asyncio", "gateway", "haystack"])
def test_load_of_a_wrapper_called_like_a_module_shadows_nothing(tmp_path: Path, name: str) -> None:
    before = sys.modules.get(name)
    loaded = load(Found(name, write_wrapper(tmp_path, name, SOURCE)), 1)
    assert (loaded.instance.run_api(), sys.modules.get(name)) == ("served", before)


def test_load_prefers_the_async_method(tmp_path: Path) -> None:
    source = SOURCE + "\n        async def run_api_async(self) -> str: ...\n"
    method = load(Found("w", write_wrapper(tmp_path, "w", source)), 1).methods["run_api"]
    assert (method.name, method.is_async, method.call.__name__) == ("run_api", True, "run_api_async")


def test_load_passes_over_the_placeholders_of_a_base_class(tmp_path: Path) -> None:
    source = """
    class BasePipelineWrapper:
        def run_api(self): raise NotImplementedError
        def run_chat_completion(self, model, messages, body): raise NotImplementedError

    class PipelineWrapper(BasePipelineWrapper):
        def run_chat_completion(self, model, messages, body): return "served"
    """
    assert list(load(Found("w", write_wrapper(tmp_path, "w", source)), 1).methods) == ["run_chat_completion"]


COMPONENT = """
    from haystack import component

    @component
    class Part:
        @component.output_types(out=str)
        def run(self, text: str):
            return {"out": text}

    class PipelineWrapper:
        part = Part()
        def run_api(self) -> str:
            return self.part.run("served")["out"]
"""


def test_unload_takes_components_out_of_haystacks_registry(tmp_path: Path) -> None:
    from haystack.core.component import component

    before = set(component.registry)
    loaded = load(Found("w", write_wrapper(tmp_path, "w", COMPONENT)), 1)
    assert set(component.registry) - before == {"gateway_wrappers.w_1.pipeline_wrapper.Part"}
    unload(loaded.package)
    assert set(component.registry) == before
    with pytest.raises(LoadError):
        load(Found("x", write_wrapper(tmp_path, "x", COMPONENT + "\n    raise ValueError\n")), 1)
    assert set(component.registry) == before


def test_unload_lets_the_wrapper_go(tmp_path: Path) -> None:
    loaded = load(Found("w", write_wrapper(tmp_path, "w", SOURCE)), 1)
    reference = weakref.ref(loaded.instance)
    module = weakref.ref(sys.modules[f"{loaded.package}.pipeline_wrapper"])
    unload(loaded.package)
    del loaded
    gc.collect()
    assert (reference(), module()) == (None, None)


def test_scan_names_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pipeline_wrapper.py").touch()
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if path.parent.name == "a":
            raise PermissionError(13, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    faults = [(found.name, found.fault) for found in scan(tmp_path)]
    assert faults == [("a", "the folder cannot be read: Permission denied"), ("b", None)]
