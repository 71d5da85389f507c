"""The second virtual environment, with Hayhooks, and what is installed in either."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

HAYHOOKS = "2.1.0"
INSTALL_S = 900.0
PACKAGES = (
    "haystack-gateway",
    "hayhooks",
    "haystack-ai",
    "starlette",
    "hypercorn",
    "sse-starlette",
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "pydantic",
)
LIST_VERSIONS = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class PeerMissing(Exception):
    """There is no Hayhooks to compare with."""


def prepare_hayhooks(folder: Path) -> Path:
    """The Python of an environment that has the pinned Hayhooks: made in `folder` unless it is there and right.

    Raises `PeerMissing` when it cannot be installed.
    """
    python = folder / "bin" / "python"
    if read_versions(python).get("hayhooks") == HAYHOOKS:
        return python
    print(f"bench: installing hayhooks=={HAYHOOKS} into {folder} …", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", f"hayhooks=={HAYHOOKS}"]
    try:
        for command in ([sys.executable, "-m", "venv", str(folder)], pip):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder, ignore_errors=True)
        said = (error.stderr or error.stdout).strip().splitlines()[-1:]
        raise PeerMissing(f"hayhooks=={HAYHOOKS} could not be installed: {' '.join(said)}") from error
    except subprocess.TimeoutExpired as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise PeerMissing(f"hayhooks=={HAYHOOKS} was not installed within {INSTALL_S:g} s") from error
    return python


def read_versions(python: Path) -> dict[str, str]:
    """What `python` has of the packages that matter here; empty when it does not run."""
    try:
        done = subprocess.run([str(python), "-I", "-c", LIST_VERSIONS, *PACKAGES], check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    found: dict[str, str] = json.loads(done.stdout)
    return found
