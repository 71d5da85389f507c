"""What an import must not do, and what must not drift apart."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.settings import Settings

PROJECT = Path(__file__).parent.parent


def look(statement: str) -> dict[str, Any]:
    """What this statement changes in a fresh interpreter."""
    source = f"""
import json, logging, os, signal, sys, threading, warnings

def state():
    return {{
        "path": list(sys.path),
        "meta_path": [str(finder) for finder in sys.meta_path],
        "environ": dict(os.environ),
        "handlers": [str(handler) for handler in logging.getLogger().handlers],
        "level": logging.getLogger().level,
        "threads": threading.active_count(),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "excepthooks": [str(sys.excepthook), str(threading.excepthook)],
        "filters": len(warnings.filters),
        "files": sorted(os.listdir(".")),
    }}

before, known = state(), set(sys.modules)
{statement}
after = state()
changed = [key for key in before if before[key] != after[key]]
print(json.dumps({{"changed": changed, "modules": sorted(set(sys.modules) - known)}}))
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_import_of_the_package_pulls_in_nothing() -> None:
    found = look("import gateway")
    assert found["changed"] == []
    others = {name.partition(".")[0] for name in found["modules"]} - {"gateway"} - set(sys.stdlib_module_names)
    assert {name for name in others if not name.startswith(("_", "__editable__"))} == set()


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        (
            "from gateway import BasePipelineWrapper, Limits, SSEStream",
            {"haystack", "starlette", "hypercorn", "pydantic"},
        ),
        ("from gateway import GatewayError, current_run", {"haystack", "starlette", "hypercorn", "pydantic"}),
        ("from gateway import log", {"haystack", "hypercorn", "pydantic"}),
        ("from gateway import Settings", {"haystack", "starlette", "hypercorn", "requests"}),
        ("from gateway import create_app", {"haystack", "requests", "hypercorn", "tqdm"}),
        ("from gateway import streaming_generator, get_last_user_message", {"haystack", "hypercorn"}),
        (
            "import gateway.cli.main",
            {"haystack", "starlette", "hypercorn", "pydantic", "requests", "tqdm", "structlog"},
        ),
        ("import gateway.server", {"haystack", "requests"}),
    ],
)
def test_import_of_a_name_changes_nothing_and_pulls_in_little(statement: str, unwanted: set[str]) -> None:
    found = look(statement)
    assert set(found["changed"]) <= {"filters"}  # pydantic and others add some
    assert {name.partition(".")[0] for name in found["modules"]} & unwanted == set()


def test_making_an_app_changes_nothing(tmp_path: Path) -> None:
    found = look(f"from gateway import Settings, create_app; create_app(Settings(wrappers_dir={str(tmp_path)!r}))")
    assert set(found["changed"]) <= {"filters"}


def test_all_names_resolve_and_match_the_table() -> None:
    tree = ast.parse((PROJECT / "gateway" / "__init__.py").read_text(encoding="utf-8"))
    for_types = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.asname or alias.name: node.module
        for node in for_types.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert shown == gateway._MODULES
    assert gateway.__all__ == sorted(gateway._MODULES)
    for name, module in gateway._MODULES.items():
        assert getattr(gateway, name) is getattr(import_module(module), name)


def test_a_name_that_is_not_there_raises() -> None:
    with pytest.raises(AttributeError, match="module 'gateway' has no attribute 'nothing'"):
        gateway.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_changelog_opens_with_this_version() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    head, *versions = re.split(r"^## ", text, flags=re.MULTILINE)
    assert "Compatibility" in head
    assert versions[0].split()[0].strip("[]") == gateway.__version__


def test_every_setting_has_its_row_in_the_docs() -> None:
    rows = {}
    for line in (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\|\s*`(\w+)`\s*\|(.*)\|", line):
            rows[found[1]] = found[2]
    assert sorted(Settings.model_fields.keys() - rows.keys()) == []
    assert sorted(name for name in rows.keys() - Settings.model_fields.keys() if name.islower()) == []


def test_every_dependency_has_its_row_in_the_readme() -> None:
    setup = (PROJECT / "setup.cfg").read_text(encoding="utf-8")
    required = re.search(r"install_requires =\n((?: +.+\n)+)", setup)
    assert required is not None
    names = [re.split(r"[^\w-]", line.strip())[0] for line in required[1].splitlines()]
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if not re.search(rf"^\|[^|]*\b{name}\b", readme, flags=re.MULTILINE)] == []
