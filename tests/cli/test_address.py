import pytest

from gateway.cli.address import is_loopback, is_verified, read_address
from gateway.cli.error import CommandError


@pytest.mark.parametrize(
    ("url", "environ", "address"),
    [
        (None, {}, "http://localhost:1416"),
        ("http://a:1/", {"GATEWAY_URL": "http://b:2"}, "http://a:1"),
        (None, {"GATEWAY_URL": "https://b/gw/", "GATEWAY_HOST": "c"}, "https://b/gw"),
        (None, {"GATEWAY_URL": "", "GATEWAY_HOST": "c"}, "http://c:1416"),
        (None, {"GATEWAY_HOST": "c", "HAYHOOKS_HOST": "d", "HAYHOOKS_PORT": "9"}, "http://c:9"),
        (None, {"GATEWAY_HOST": "", "HAYHOOKS_HOST": "d"}, "http://d:1416"),
        (None, {"GATEWAY_ROOT_PATH": "/gw/", "GATEWAY_PORT": "80"}, "http://localhost:80/gw"),
        (None, {"HAYHOOKS_ROOT_PATH": "gw", "HAYHOOKS_USE_HTTPS": "true"}, "https://localhost:1416/gw"),
        (None, {"GATEWAY_HOST": "0.0.0.0"}, "http://localhost:1416"),
        (None, {"GATEWAY_HOST": "::"}, "http://localhost:1416"),
        (None, {"GATEWAY_HOST": "[::]"}, "http://localhost:1416"),
        (None, {"GATEWAY_HOST": "::1"}, "http://[::1]:1416"),
        (None, {"GATEWAY_HOST": "[fe80::2]"}, "http://[fe80::2]:1416"),
        ("example.com:8000", {}, "http://example.com:8000"),
    ],
)
def test_address_from_option_and_environment(url: str | None, environ: dict[str, str], address: str) -> None:
    assert read_address(url, environ) == address


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://", "http://a:99999", "http://a:0", "http://a?b", "http://[::1", ":"]
)
def test_address_that_is_none(url: str) -> None:
    with pytest.raises(CommandError, match="is not an address such as http://localhost:1416"):
        read_address(url, {})


def test_port_that_is_no_number() -> None:
    with pytest.raises(CommandError, match="'http://localhost:x/' is not an address"):
        read_address(None, {"GATEWAY_PORT": "x"})


def test_credentials_in_the_address_are_not_shown() -> None:
    with pytest.raises(CommandError) as caught:
        read_address("http://me:secret@a", {})
    assert caught.value.message == "credentials belong into --api-key or --header, not into the address"


@pytest.mark.parametrize(
    ("text", "verified"), [("", True), ("false", True), ("0", True), ("1", False), ("True", False)]
)
def test_certificate_check_is_switched_off(text: str, verified: bool) -> None:
    assert is_verified({"HAYHOOKS_DISABLE_SSL": text}) is verified


@pytest.mark.parametrize(
    ("address", "is_near"),
    [("http://localhost:1", True), ("http://[::1]:1", True), ("http://127.0.0.2", True), ("http://a.b", False)],
)
def test_loopback(address: str, is_near: bool) -> None:
    assert is_loopback(address) is is_near
