"""The environment: what Haystack reads from it when it is imported, and what `.env` adds."""

import os
from collections.abc import Mapping
from pathlib import Path

from gateway.errors import ConfigError

DEFAULTS = {
    # Its lines go through our pipe, without the handler that it would put on its own loggers.
    "HAYSTACK_LOGGING_IGNORE_STRUCTLOG": "true",
    # Its telemetry writes into the user's home, and offline it retries in the log and delays the exit.
    "HAYSTACK_TELEMETRY_ENABLED": "False",
}


def prepare_haystack() -> None:
    """Set the defaults above; what the operator has set stands."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def read_environ(outer: Mapping[str, str], path: Path) -> dict[str, str]:
    """What a process begun now would have: `outer`, and below it the file at `path`. Raises `ConfigError`."""
    from dotenv import dotenv_values

    try:
        file = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    return {**DEFAULTS, **{name: value for name, value in file.items() if value is not None}, **outer}
