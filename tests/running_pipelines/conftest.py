"""One gateway for all commands of the guide, as a process of its own."""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from urllib.parse import urlsplit

import pytest

from tests.gateways import Process, spawn

HERE = Path(__file__).parent
UNSET = ("GATEWAY_URL", "GATEWAY_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL")


@dataclass(frozen=True)
class RunningServer:
    """`environment`: for a command that is to find this server and no other."""

    process: Process
    port: int
    environment: Mapping[str, str]

    def wait_for_log(self, event: str) -> str:
        """The next line of the server's log that holds `event`."""
        return self.process.wait_for(f'"{event}"')


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    wrappers_dir = tmp_path_factory.mktemp("server") / "wrappers"
    copytree(HERE / "wrappers", wrappers_dir)
    calm = {"HAYSTACK_TELEMETRY_ENABLED": "False", "NO_PROXY": "*", **dict.fromkeys(UNSET, "")}
    with spawn("--wrappers-dir", str(wrappers_dir), "--strict", cwd=wrappers_dir.parent, environment=calm) as process:
        process.wait_until_ready()
        port = urlsplit(process.url).port
        assert port is not None
        scripts = Path(sys.executable).parent
        environment = {
            **{name: value for name, value in os.environ.items() if name not in UNSET},
            "GATEWAY_PORT": str(port),
            "NO_PROXY": "*",
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        }
        yield RunningServer(process, port, environment)
        assert process.stop() == 0
        with pytest.raises(AssertionError):  # its log is read to the end
            process.wait_for("a line that never comes")
        assert process.process.stderr is not None
        process.process.stderr.close()
