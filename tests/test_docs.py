"""The documentation is true: settings, options, error codes, links, commands and programs with their output.

What is run, in each file of `PAGES`, from top to bottom, in a folder with this project's files in it:

- a ```console block: the lines that begin with `$ ` are commands, the lines below are what each prints (stdout and
  stderr). `…` stands for any text.
- a ```python block with a ```text block right below: a program, and what it prints.
- a ```python block that begins with `# wrappers/<name>/pipeline_wrapper.py` is a wrapper that the server has.
- a ```yaml block that begins with `# <name>.yml` is a file in the folder.

The server of `OWN_FOLDER` serves the folder `wrappers` in which its page's commands run; that of the others a copy.

A ```sh block is shown only. `localhost:1416` stands for the server of the test.
"""

import argparse
import ast
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from shutil import copytree, ignore_patterns
from textwrap import dedent
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import gateway
from gateway import errors
from gateway.cli.environment import DEFAULTS
from gateway.cli.main import COMMANDS
from gateway.protocols.items import REFUSED
from gateway.protocols.responses import DEFAULTS as DEFAULT_FIELDS
from gateway.settings import CLIENT_VARIABLES, Settings
from tests.gateways import spawn

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
LINKED = sorted([*DOCS.glob("*.md"), ROOT / "README.md"])
PAGES = (
    "../README.md",
    "openai.md",
    "cli.md",
    "settings.md",
    "running-pipelines.md",
    "file-uploads.md",
    "examples.md",
    "deploying.md",
)
OWN_FOLDER = "deploying.md"
ADDRESS = "localhost:1416"
TIMEOUT_S = 30
# One server for all, whatever the environment of the tests says; an empty variable counts as unset.
UNSET = ("GATEWAY_URL", "GATEWAY_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL")
CALM = {**dict.fromkeys(UNSET, ""), "NO_PROXY": "*"}

BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
EXAMPLES = ("agent", "chat", "document_qa", "hello", "report")
WRAPPER = re.compile(r"# wrappers/([\w-]+)/pipeline_wrapper\.py\n")
YAML_FILE = re.compile(r"# ([\w-]+\.yml)\n")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`]+)`")


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """`(language, content)` of the fenced blocks; `("program", …)` and its `text` for a program with its output."""
    found = list(BLOCK.finditer(text))
    named = []
    for block, following in zip_longest(found, found[1:]):
        is_followed = following is not None and not text[block.end() : following.start()].strip()
        is_program = block[2] == "python" and is_followed and following[2] == "text"
        named.append(("program" if is_program else block[2], dedent(block[3])))
    return named


def section(text: str, heading: str) -> str:
    """What stands under a heading, sub-headings included, without the blocks."""
    text = BLOCK.sub("", text)
    head = re.search(rf"^(#+) {re.escape(heading)}\n", text, re.MULTILINE)
    assert head, f"no heading {heading!r}"
    rest = text[head.end() :]
    following = re.search(rf"^#{{1,{len(head[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = {number for number, row in enumerate(cells) if set("".join(row)) <= {"-", ":"}}
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


def options_of(command: str) -> dict[str, set[str]]:
    """The option strings by destination; without help and what is kept from it."""
    module: Any = import_module(COMMANDS[command][0])
    parser = argparse.ArgumentParser(add_help=False)
    module.add_arguments(parser)
    shown = [action for action in parser._actions if action.dest != "help" and action.help != argparse.SUPPRESS]
    return {action.dest: set(action.option_strings) for action in shown if action.option_strings}


# Settings


def test_settings_have_a_row_each() -> None:
    options = options_of("run")
    expected = [
        [f"`{name}`", f"`GATEWAY_{name.upper()}`", options.get(name, set()), show(field.default)]
        for name, field in Settings.model_fields.items()
    ]
    table = rows(section(read("settings.md"), "All settings"))
    assert [[row[0], row[1], set(CODE_SPAN.findall(row[2])), row[3]] for row in table] == expected
    assert all(row[4] for row in table)


def show(default: Any) -> str:
    if default is None:
        return "*none*"
    if default == "":
        return "*empty*"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_settings_page_names_what_is_set_for_haystack() -> None:
    table = rows(section(read("settings.md"), "Haystack's own variables"))
    assert {row[0].strip("`"): row[1].strip("`") for row in table} == DEFAULTS


def test_settings_page_names_the_variables_of_clients() -> None:
    table = rows(section(read("settings.md"), "Variables for clients"))
    assert set(CLIENT_VARIABLES) <= {name for row in table for name in CODE_SPAN.findall(row[0])}


# The command line


@pytest.mark.parametrize("command", COMMANDS)
def test_cli_page_has_the_options_that_exist(command: str) -> None:
    page = read("cli.md")
    part = section(page, f"gateway {command}")
    if "[Reaching the server](#reaching-the-server)" in part:
        part += section(page, "Reaching the server")
    spans = [span for row in rows(part) for span in CODE_SPAN.findall(row[0])]
    documented = {span.split()[0] for span in spans if span.startswith("-")}
    assert documented == set().union(*options_of(command).values())


def test_cli_page_has_the_commands_that_exist() -> None:
    headings = re.findall(r"^## gateway (.+)$", read("cli.md"), re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)


# Errors


def test_running_page_has_the_errors_that_exist() -> None:
    kinds = [errors.GatewayError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    expected = {(kind.status, kind.code, kind.type) for kind in kinds if kind.__module__ == errors.__name__}
    table = rows(section(read("running-pipelines.md"), "Every status and code"))
    assert {(int(row[0]), row[1].strip("`"), row[2].strip("`")) for row in table} == expected


# The OpenAI API


def test_openai_page_has_the_helpers_that_exist() -> None:
    helpers = {name: getattr(gateway, name) for name in gateway.__all__ if name != "create_app"}
    expected = {f"{name}{signature_of(helper)}" for name, helper in helpers.items() if inspect.isfunction(helper)}
    assert {row[0].strip("`") for row in rows(section(read("openai.md"), "The helpers"))} == expected


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Without its annotations."""
    parameters = inspect.signature(function).parameters.values()
    return inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters])


def test_openai_page_has_the_arguments_of_the_streaming_helpers() -> None:
    helpers = (gateway.streaming_generator, gateway.async_streaming_generator)
    expected = {name for helper in helpers for name in inspect.signature(helper).parameters} - {"pipeline"}
    table = rows(section(read("openai.md"), "The streaming helpers"))
    assert {row[0].strip("`").partition("(")[0] for row in table} == expected


def test_openai_page_has_what_a_response_repeats_and_what_is_refused() -> None:
    table = rows(section(read("openai.md"), "Responses: every name"))
    names = [(set(CODE_SPAN.findall(row[0])), row[1]) for row in table]
    assert set().union(*(spans for spans, word in names if word.startswith("refused"))) == set(REFUSED)
    assert [spans for spans, word in names if word.startswith("those of the request")] == [set(DEFAULT_FIELDS)]


# Links and code


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    dead = [target for target in LINK.findall(text) if not urlsplit(target).scheme and not leads(path, target)]
    assert dead == []


def leads(path: Path, target: str) -> bool:
    place, _, anchor = unquote(target).partition("#")
    file = path.parent / place if place else path
    return file.exists() and (not anchor or anchor in anchors(file.read_text(encoding="utf-8")))


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", BLOCK.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names


@pytest.mark.parametrize("path", LINKED, ids=lambda path: path.name)
def test_python_blocks_compile(path: Path) -> None:
    for language, content in blocks(path.read_text(encoding="utf-8")):
        if language in ("python", "program"):
            compile(content, path.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


# Commands and programs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkout holds, as far as the pages name it."""
    folder = tmp_path_factory.mktemp("checkout")
    copytree(ROOT / "docs", folder / "docs")
    for name in EXAMPLES:  # and not what else a user has put there
        copytree(ROOT / "wrappers" / name, folder / "wrappers" / name, ignore=ignore_patterns("__pycache__"))
    copytree(ROOT / "tests" / "data", folder / "tests" / "data")
    for name in ("README.md", "LICENSE"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def wrappers_in(page: str) -> dict[str, str]:
    """The source of the wrappers that a page defines, by name."""
    sources = [content for language, content in blocks(read(page)) if language == "python"]
    return {match[1]: source for source in sources if (match := WRAPPER.match(source))}


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of `OWN_FOLDER` run: an empty `wrappers`, and the files that the page shows."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "wrappers").mkdir()
    for language, content in blocks(read(OWN_FOLDER)):
        if language == "yaml" and (match := YAML_FILE.match(content)):
            (folder / match[1]).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def servers(folder: Path, own_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address by page: a server of `wrappers/`, one that has the wrappers of the pages as well, and its own."""
    plain, extended = (tmp_path_factory.mktemp(name) / "wrappers" for name in ("plain", "extended"))
    copytree(folder / "wrappers", plain)
    copytree(folder / "wrappers", extended)
    for name, source in (item for page in PAGES for item in wrappers_in(page).items()):
        (extended / name).mkdir()
        (extended / name / "pipeline_wrapper.py").write_text(source, encoding="utf-8")
    with (
        spawn("-d", str(plain), "--strict", cwd=plain.parent, environment=CALM) as first,
        spawn("-d", str(extended), "--strict", cwd=extended.parent, environment=CALM) as second,
        spawn("-d", "wrappers", cwd=own_folder, environment=CALM) as third,
    ):
        servers = {page: second if wrappers_in(page) else first for page in PAGES} | {OWN_FOLDER: third}
        for server in (first, second, third):
            server.wait_until_ready()
        yield {page: f"localhost:{urlsplit(server.url).port}" for page, server in servers.items()}


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_programs_print_what_is_shown(
    page: str, folder: Path, own_folder: Path, servers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_folder if page == OWN_FOLDER else folder)
    for name, value in CALM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GATEWAY_PORT", servers[page].partition(":")[2])
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    content = blocks(read(page).replace(ADDRESS, servers[page]))
    shown: list[str] = []
    printed: list[str] = []
    for (language, text), (_, following) in zip_longest(content, content[1:], fillvalue=("", "")):
        if language == "console":
            commands, outputs = split_transcript(text)
            shown += outputs
            printed += run_commands(commands)
        elif language == "program":
            shown.append(following)
            printed.append(run_program(text))
    assert [fill_in(*pair) for pair in zip(shown, printed, strict=True)] == [text.rstrip("\n") for text in printed]


def split_transcript(text: str) -> tuple[list[str], list[str]]:
    """The commands, and what is shown below each."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    assert not parts[0], f"a console block begins with a command, not with {parts[0]!r}"
    return parts[1::2], parts[2::2]


def run_commands(commands: list[str]) -> list[str]:
    """What each prints, in one shell."""
    script = "".join(f"{command}\nprintf '\\036'\n" for command in commands)
    with subprocess.Popen(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, _ = shell.communicate(timeout=TIMEOUT_S)
        except BaseException:
            os.killpg(shell.pid, signal.SIGKILL)  # with what it has started
            raise
    return printed.split("\036")[:-1]


def run_program(text: str) -> str:
    """What it prints. In this process: importing its libraries anew for each takes longer than the programs."""
    with redirect_stdout(StringIO()) as stdout:
        exec(compile(text, "program", "exec"), {"__name__": "__main__"})
    return stdout.getvalue()


def fill_in(shown: str, printed: str) -> str:
    """What is printed where it is what `shown` says, with any text for `…`; else `shown`."""
    shown, printed = shown.rstrip("\n"), printed.rstrip("\n")
    return printed if re.fullmatch(".*".join(map(re.escape, shown.split("…"))), printed, re.DOTALL) else shown
