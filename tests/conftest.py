"""Fixtures that every test may use."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import Gateway, serve, write_wrapper

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before anything imports haystack

Serve = Callable[..., Gateway]


@pytest.fixture
def serve_wrapper(tmp_path: Path) -> Iterator[Serve]:
    """`serve_wrapper(source, **settings)`: a gateway with one wrapper, called `w`, of this source."""
    with ExitStack() as stack:

        def start(source: str, **settings: Any) -> Gateway:
            write_wrapper(tmp_path / "wrappers", "w", source)
            return stack.enter_context(serve(tmp_path / "wrappers", **settings))

        yield start
