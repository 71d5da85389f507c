"""A worker that a supervisor has started: `python -m gateway.asgi`. What it needs to know stands in its environment."""

import os
import socket
import sys
from dataclasses import dataclass

from pydantic import TypeAdapter

from gateway import server
from gateway.app import create_app
from gateway.settings import Settings
from gateway.state import LOG_LOCK
from gateway.telemetry.log import configure_logging

VARIABLE = "GATEWAY_WORKER"
STRICT = 78  # the exit code for: a wrapper failed to load, and that is not to be suffered


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is told. `listener`, `alive`, `ready`, `lock`: file descriptors; `role`: see `server.Ties`."""

    settings: Settings
    run_id: str
    role: server.Role
    listener: int
    alive: int
    ready: int
    lock: int

    def to_json(self) -> str:
        return TypeAdapter(Assignment).dump_json(self).decode()


def main() -> int:
    told = TypeAdapter(Assignment).validate_json(os.environ.pop(VARIABLE))
    for descriptor in (told.listener, told.alive, told.ready, told.lock):
        os.set_inheritable(descriptor, False)  # a program that a wrapper starts would hold the port
    settings = told.settings
    lock = settings.state_path / LOG_LOCK
    configure_logging(level=settings.log_level, format=settings.log_format, pid=os.getpid(), lock=lock)
    app = create_app(settings, run_id=told.run_id, is_replacement=told.role != "first")
    ties = server.Ties(told.alive, told.ready, told.role)
    code = server.run(app, settings, socket.socket(fileno=told.listener), ties)
    return STRICT if code else 0


if __name__ == "__main__":
    sys.exit(main())
