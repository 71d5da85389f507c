import argparse
import socket
from typing import Any

import pytest

from gateway.cli.client import Client, add_client_arguments, make_client, parse_json
from gateway.cli.error import CommandError
from tests.cli.double import Double, Reply, as_json

OK = Reply(b"ok")


def make(*argv: str, **environ: str) -> Client:
    parser = argparse.ArgumentParser()
    add_client_arguments(parser, default_timeout_s=None)
    return make_client(parser.parse_args(argv), environ)


def fail(client: Client, path: str = "/x") -> str:
    with pytest.raises(CommandError) as caught:
        client.get(path)
    return caught.value.message


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_key_and_headers_are_sent(server: Double) -> None:
    server.on("GET", "/x", OK)
    make("--url", server.url, "--api-key", "k ä", "--header", "X-Tag: a", "--header", "x-tag:b").get("/x")
    headers = server.requests[0].headers
    assert headers["Authorization"].encode("latin-1").decode() == "Bearer k ä"
    assert headers.get_all("X-Tag") == ["a, b"]
    assert headers["Accept-Encoding"] == "identity"


def test_key_from_the_environment(server: Double) -> None:
    server.on("GET", "/x", OK)
    make(GATEWAY_URL=server.url, GATEWAY_API_KEY="secret\n").get("/x")
    assert server.requests[0].headers["Authorization"] == "Bearer secret"


def test_typed_header_wins_over_the_key(server: Double) -> None:
    server.on("GET", "/x", OK)
    make("--url", server.url, "--api-key", "k", "--header", "authorization: Basic eA==").get("/x")
    assert server.requests[0].headers.get_all("Authorization") == ["Basic eA=="]


def test_netrc_is_left_alone(server: Double, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.on("GET", "/x", OK)
    make("--url", server.url, "--api-key", "k").get("/x")
    assert server.requests[0].headers["Authorization"] == "Bearer k"


def test_proxy_is_no_way_to_this_machine(server: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    server.on("GET", "/x", OK)
    assert make("--url", server.url).get("/x") == b"ok"


def test_key_with_a_line_break_is_not_shown() -> None:
    with pytest.raises(CommandError) as caught:
        make("--api-key", "a\nb")
    assert caught.value.message == "the API key holds a line break or another control character"


@pytest.mark.parametrize(
    "argv", [["--header", "x"], ["--header", "a b: c"], ["--header", "a: b\r\nc: d"], ["--timeout", "0"]]
)
def test_option_that_is_wrong(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        make(*argv)
    assert caught.value.code == 2


def test_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert fail(Client(url, {})) == f"cannot connect to {url}: connection refused; is the gateway running?"


def test_unknown_host() -> None:
    assert fail(Client("http://gateway.invalid:1", {})).startswith("cannot connect to http://gateway.invalid:1: ")


def test_silent_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert fail(Client(url, {}, timeout_s=0.05)) == f"{url} did not answer in time; --timeout allows more"


def test_server_that_hangs_up(server: Double) -> None:
    def hang_up(handler: Any) -> None:
        handler.close_connection = True

    server.on("GET", "/x", hang_up)
    assert fail(Client(server.url, {})) == (
        f"the connection to {server.url} failed: Remote end closed connection without response"
    )


def test_not_a_tls_server(server: Double) -> None:
    assert fail(Client(server.url.replace("http", "https"), {})).startswith("cannot connect to https://127.0.0.1:")


def test_redirect_is_not_followed(server: Double) -> None:
    server.on("GET", "/x", Reply(status=308, headers={"Location": "https://b/x"}))
    assert fail(Client(server.url, {})) == f"{server.url} redirects to https://b/x; give that address with --url"


def test_error_without_a_body(server: Double) -> None:
    server.on("GET", "/x", Reply(status=500))
    assert fail(Client(server.url, {})) == f"{server.url} answered 500 Internal Server Error"


def test_error_with_a_broken_body(server: Double) -> None:
    server.on("GET", "/x", Reply([b'{"detail": '], status=500, is_cut=True))
    assert fail(Client(server.url, {})) == f"{server.url} answered 500 Internal Server Error"


def test_body_that_breaks_off(server: Double) -> None:
    server.on("GET", "/x", Reply(b"1234", is_cut=True))
    assert fail(Client(server.url, {})) == "the reply is incomplete: the connection broke"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retry_of_a_status(
    server: Double,
    pauses: list[float],
    status: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    busy = as_json({"detail": "busy"}, status)
    server.on("GET", "/x", busy, Reply(status=status, headers={"Retry-After": "7"}), busy, OK)
    client = Client(server.url, {}, retries=3, sleep=pauses.append)
    assert client.get("/x") == b"ok"
    assert pauses == [0.5, 7.0, 2.0]
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == [
        "trying again in 0.5 s (1 of 3)",
        "trying again in 7.0 s (2 of 3)",
        "trying again in 2.0 s (3 of 3)",
    ]
    assert lines[0].startswith(f"{server.url} answered {status} ")


def test_retries_used_up(server: Double, pauses: list[float]) -> None:
    server.on("GET", "/x", as_json({"detail": "busy"}, 503))
    assert fail(Client(server.url, {}, retries=2, sleep=pauses.append)) == "busy"
    assert (len(server.requests), len(pauses)) == (3, 2)


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
def test_no_retry_of_another_status(server: Double, pauses: list[float], status: int) -> None:
    server.on("GET", "/x", as_json({"detail": "no"}, status), OK)
    assert fail(Client(server.url, {}, retries=2, sleep=pauses.append)) == "no"
    assert pauses == []


def test_retry_of_a_refused_connection(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    started: list[socket.socket] = []

    def start_server(pause_s: float) -> None:
        started.append(socket.create_server(("127.0.0.1", port)))

    client = Client(f"http://127.0.0.1:{port}", {}, timeout_s=0.05, retries=1, sleep=start_server)
    assert fail(client).endswith("did not answer in time; --timeout allows more")
    started[0].close()
    assert capsys.readouterr().err.startswith(
        f"cannot connect to http://127.0.0.1:{port}: connection refused; trying again in "
    )


def test_no_retry_of_a_lost_connection(server: Double, pauses: list[float]) -> None:
    def hang_up(handler: Any) -> None:
        handler.close_connection = True

    server.on("GET", "/x", hang_up, OK)
    fail(Client(server.url, {}, retries=2, sleep=pauses.append))
    assert (len(server.requests), pauses) == (1, [])


def test_reply_that_is_no_json() -> None:
    with pytest.raises(CommandError) as caught:
        parse_json(b"<html>", "http://a")
    assert caught.value.message == "the reply of http://a is not valid JSON; is that a gateway?"
