"""What Haystack reads from the environment when it is imported."""

import os

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
