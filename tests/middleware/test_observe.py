"""`X-Request-ID` through a real server. In the log: `tests/telemetry/test_log.py`."""

import re
from collections.abc import Iterator

import pytest
import requests

from tests.gateways import WRAPPERS, Gateway, serve, write_wrapper

WAIT_S = 10.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    wrappers_dir = tmp_path_factory.mktemp("wrappers")
    for name in ("results", "raising"):
        (wrappers_dir / name).symlink_to(WRAPPERS / name)
    with serve(wrappers_dir) as gateway:
        yield gateway


REPLIES = {
    "a result": ("POST", "/results/run", {"kind": "number"}),
    "a stream": ("POST", "/results/run", {"kind": "events"}),
    "a response": ("POST", "/results/run", {"kind": "bytes"}),
    "a result that cannot be sent": ("POST", "/results/run", {"kind": "object"}),
    "a wrapper that fails": ("POST", "/raising/run", {"what": "value"}),
    "a wrapper that exits": ("POST", "/raising/run", {"what": "exit"}),
    "wrong arguments": ("POST", "/results/run", {}),
    "no wrapper": ("POST", "/nope/run", {}),
    "no path": ("GET", "/nope", None),
    "wrong method": ("GET", "/results/run", None),
    "a probe": ("GET", "/livez", None),
    "a redirect": ("POST", "/results/run/", {}),
}


@pytest.mark.parametrize("case", REPLIES)
def test_request_id_is_in_every_reply(gateway: Gateway, case: str) -> None:
    method, path, body = REPLIES[case]
    url = gateway.url + path
    given = requests.request(
        method, url, json=body, headers={"X-Request-ID": "mine:1"}, timeout=WAIT_S, allow_redirects=False
    )
    made = requests.request(method, url, json=body, timeout=WAIT_S, allow_redirects=False)
    assert given.headers["x-request-id"] == "mine:1"
    assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])


@pytest.mark.parametrize("request_id", ["", "two words", "x" * 129, "gr\xfcn"])
def test_request_id_that_is_not_well_formed_is_replaced(gateway: Gateway, request_id: str) -> None:
    reply = requests.get(f"{gateway.url}/livez", headers={"X-Request-ID": request_id.encode("latin-1")}, timeout=WAIT_S)
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["x-request-id"])


def test_request_ids_are_never_the_same(gateway: Gateway) -> None:
    with requests.Session() as session:
        replies = [session.get(f"{gateway.url}/livez", timeout=WAIT_S) for _ in range(50)]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 50


def test_request_id_is_the_runs_id(tmp_path_factory: pytest.TempPathFactory) -> None:
    wrappers_dir = tmp_path_factory.mktemp("run")
    write_wrapper(
        wrappers_dir,
        "w",
        """
        from gateway import BasePipelineWrapper, current_run

        class PipelineWrapper(BasePipelineWrapper):
            def run_api(self) -> list[str]:
                run = current_run()
                return [run.id, run.wrapper, run.caller, run.headers["x-mine"]]
        """,
    )
    with serve(wrappers_dir) as gateway:
        headers = {"X-Request-ID": "abc", "X-Mine": "yes"}
        reply = requests.post(f"{gateway.url}/w/run", json={}, headers=headers, timeout=WAIT_S)
    assert reply.json() == {"result": ["abc", "w", "127.0.0.1", "yes"]}
