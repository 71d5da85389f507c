"""The shape of the package, read off its syntax trees: who may import whom, and what no module may hold."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "gateway"
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

# A module imports lower layers only; a package's row stands for all modules in it that have none of their own.
LAYERS = {
    "gateway": 0,  # hands names on when they are asked for
    "gateway.version": 0,
    "gateway.errors": 0,
    "gateway.run": 0,
    "gateway.wrapper": 0,
    "gateway.thread": 0,
    "gateway.protocols": 1,
    "gateway.haystack.message": 0,
    "gateway.middleware.catch": 0,
    "gateway.middleware.linger": 0,
    "gateway.schema": 0,
    "gateway.wait": 0,
    "gateway.settings": 1,
    "gateway.telemetry": 1,
    "gateway.signature": 1,
    "gateway.limiter": 1,
    "gateway.disconnect": 1,
    "gateway.compat": 1,
    "gateway.source": 0,
    "gateway.publication": 0,
    "gateway.standing": 1,
    "gateway.record": 3,
    "gateway.generations": 4,
    "gateway.preparer": 4,
    "gateway.follower": 5,
    "gateway.team": 6,
    "gateway.watcher": 2,
    "gateway.events": 2,
    "gateway.state": 2,
    "gateway.files": 3,
    "gateway.registry": 2,
    "gateway.stream": 2,
    "gateway.haystack.bridge": 3,
    "gateway.haystack.convert": 4,
    "gateway.haystack.inputs": 0,
    "gateway.haystack.graph": 0,
    "gateway.haystack.yaml_source": 1,
    "gateway.haystack.yaml_pipeline": 5,
    "gateway.haystack.streaming": 4,
    "gateway.middleware.observe": 2,
    "gateway.loader": 3,
    "gateway.openapi": 3,
    "gateway.invoke": 3,
    "gateway.deployer": 7,
    "gateway.tracker": 8,
    "gateway.routes.body": 5,
    "gateway.routes.docs": 5,
    "gateway.routes.response": 4,
    "gateway.routes.problem": 5,
    "gateway.routes.status": 9,
    "gateway.routes.reply": 6,
    "gateway.routes.dispatch": 7,
    "gateway.routes.deploy": 8,
    "gateway.routes.run": 8,
    "gateway.routes.openai": 8,
    "gateway.routes.files": 9,
    "gateway.app": 10,
    "gateway.server": 11,
    "gateway.asgi": 12,
    "gateway.supervisor": 13,
    "gateway.reload": 3,
    "gateway.cli.error": 12,
    "gateway.cli.environment": 12,
    "gateway.cli.failure": 12,
    "gateway.cli.param": 12,
    "gateway.cli.retry": 12,
    "gateway.cli.sse": 12,
    "gateway.cli.address": 13,
    "gateway.cli.output": 13,
    "gateway.cli.upload": 13,
    "gateway.cli.client": 14,
    "gateway.cli.reply": 15,
    "gateway.cli.status": 15,
    "gateway.cli.chat": 16,
    "gateway.cli.check": 16,
    "gateway.cli.new": 16,
    "gateway.cli.pipeline_list": 16,
    "gateway.cli.pipeline_deploy_files": 16,
    "gateway.cli.pipeline_deploy_yaml": 17,
    "gateway.cli.pipeline_undeploy": 17,
    "gateway.cli.pipeline_rollback": 17,
    "gateway.cli.pipeline_restore": 18,
    "gateway.cli.pipeline_run": 16,
    "gateway.cli.run": 16,
    "gateway.cli.main": 19,
    "gateway.__main__": 20,
}
# A command's module is imported by every call of that command: what only its `main` needs is imported there.
MAY_IMPORT_IN_FUNCTIONS = ("gateway.cli.check", "gateway.cli.run")
READS_THE_ENVIRONMENT = ("gateway.cli.", "gateway.asgi")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
PACKAGES = {name for name, path in MODULES.items() if path.name == "__init__.py" and name != "gateway"}


def row_of(module: str) -> str | None:
    """The row of the module, or else of the nearest package above it; the root's row is its own only."""
    if module in LAYERS:
        return module
    parent = module.rpartition(".")[0]
    return row_of(parent) if parent and parent != "gateway" else None


def is_for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST, *, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that runs, and whether it stands in a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt) and is_for_types_only(child):
            continue
        yield child, in_function
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from walk(child, in_function=in_function or is_function)


def imports(module: str) -> Iterator[tuple[str, bool]]:
    """The gateway's own modules that this one imports, and whether a function does so."""
    for node, in_function in walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, in_function) for alias in node.names if alias.name.split(".")[0] == "gateway")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            if (node.module or "").split(".")[0] == "gateway":
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    yield (full if full in MODULES else str(node.module)), in_function


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_lower_layers_only(module: str) -> None:
    row = row_of(module)
    if module in PACKAGES and row is None:
        assert not list(imports(module)), f"{module} is only a folder"
        return
    assert row is not None, f"{module} has no row in LAYERS"
    for imported, _ in imports(module):
        target = row_of(imported)
        assert target is not None, f"{module} imports {imported}, which has no row"
        assert LAYERS[target] < LAYERS[row] or (target == row != module), f"{module} must not import {imported}"


def test_every_row_has_a_module() -> None:
    assert [row for row in LAYERS if row not in MODULES] == []


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_the_gateway_at_its_top(module: str) -> None:
    if module not in MAY_IMPORT_IN_FUNCTIONS:
        assert [imported for imported, in_function in imports(module) if in_function] == []


@pytest.mark.parametrize("module", MODULES)
def test_module_holds_no_state(module: str) -> None:
    for node, _ in walk(TREES[module]):
        assert not isinstance(node, ast.Global), f"{module}, line {node.lineno}: global"
    for node in TREES[module].body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in (target for target in targets if isinstance(target, ast.Name)):
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            is_context = (
                isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "ContextVar"
            )
            is_private_context = is_context and target.id.startswith("_")
            is_constant = not target.id.islower() or target.id.startswith("__") or target.id in ("log", "logger")
            assert is_constant or is_private_context, f"{module}, line {node.lineno}: {target.id} is state"


@pytest.mark.parametrize("module", MODULES)
def test_module_is_small(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_MODULE_LINES, f"{module} has {lines} lines"
    for node, _ in walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{module}.{node.name} has {length} lines"


@pytest.mark.parametrize("module", MODULES)
def test_module_uses_nothing_that_is_banned(module: str) -> None:
    reads_the_environment = module.startswith(READS_THE_ENVIRONMENT)
    for node, _ in walk(TREES[module]):
        names: set[str] = set()
        if isinstance(node, ast.Name):
            names = {node.id}
        elif isinstance(node, ast.Attribute):
            names = {node.attr}
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
        assert "BaseHTTPMiddleware" not in names, f"{module}: a middleware is a pure ASGI class"
        assert reads_the_environment or not names & {"environb", "getenv", "putenv"}, f"{module} reads the environment"
        is_environ = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        if is_environ or isinstance(node, ast.ImportFrom):
            assert reads_the_environment or "environ" not in names, f"{module} reads the environment"


def test_middleware_are_short() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items() if ".middleware." in name}
    assert {name: length for name, length in lengths.items() if length > 120} == {}
