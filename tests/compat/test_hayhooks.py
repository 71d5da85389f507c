import sys
from collections.abc import Iterator
from importlib import import_module

import pytest

import gateway
from gateway.compat import hayhooks


@pytest.fixture
def _installed() -> Iterator[None]:
    before = sys.modules.pop("hayhooks", None)
    hayhooks.install()
    yield
    del sys.modules["hayhooks"]
    if before is not None:
        sys.modules["hayhooks"] = before


@pytest.mark.usefixtures("_installed")
def test_names_are_the_gateways_own() -> None:
    module = import_module("hayhooks")
    assert {name: getattr(module, name) for name in hayhooks.NAMES} == {
        name: getattr(gateway, name) for name in hayhooks.NAMES
    }
    assert set(module.__all__) == set(hayhooks.NAMES)


@pytest.mark.usefixtures("_installed")
def test_the_names_of_the_first_version_are_there() -> None:
    needed = {"BasePipelineWrapper", "SSEStream", "log", "get_last_user_message", "get_last_user_input_text"}
    assert needed <= set(hayhooks.NAMES)


@pytest.mark.usefixtures("_installed")
def test_a_name_that_is_not_there_says_so() -> None:
    with pytest.raises(
        ImportError, match=f"^haystack-gateway {gateway.__version__} does not have create_app of hayhooks$"
    ):
        from hayhooks import create_app  # noqa: F401
    assert not hasattr(import_module("hayhooks"), "__path__")


@pytest.mark.usefixtures("_installed")
def test_install_leaves_a_module_that_is_there() -> None:
    first = sys.modules["hayhooks"]
    hayhooks.install()
    assert sys.modules["hayhooks"] is first
