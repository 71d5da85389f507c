from base64 import b64encode
from typing import Any

import pytest

from gateway.errors import InvalidArguments
from gateway.protocols.deploy import DeployRequest, deployed, parse_files, parse_yaml

ENTRY = "pipeline_wrapper.py"
BYTES = bytes(range(240, 256))
CASES: dict[str, tuple[Any, DeployRequest]] = {
    "the least": (
        {"name": "w", "files": {ENTRY: "x"}},
        DeployRequest("w", {ENTRY: b"x"}, overwrite=False, is_saved=True, description=""),
    ),
    "all of it": (
        {
            "name": "w",
            "files": {
                ENTRY: "grün\r\n",
                "data/words.bin": {"content_base64": b64encode(BYTES).decode()},
                ".env": "",
                "a b/ü.txt": "x",
            },
            "overwrite": True,
            "save_files": False,
            "description": "the first",
            "skip_mcp": True,
        },
        DeployRequest(
            "w",
            {ENTRY: "grün\r\n".encode(), "data/words.bin": BYTES, ".env": b"", "a b/ü.txt": b"x"},
            overwrite=True,
            is_saved=False,
            description="the first",
        ),
    ),
    "null is the default": (
        {"name": "w", "files": {ENTRY: ""}, "overwrite": None, "save_files": None, "description": None},
        DeployRequest("w", {ENTRY: b""}, overwrite=False, is_saved=True, description=""),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_parse_files(case: str) -> None:
    data, expected = CASES[case]
    assert parse_files(data) == expected


def of(files: Any, **fields: Any) -> Any:
    return {"name": "w", "files": files, **fields}


FAULTS: dict[str, tuple[Any, str]] = {
    "a list": ([], "body: "),
    "nothing": ({}, "body.files: "),
    "no name": ({"files": {ENTRY: ""}}, "body.name: "),
    "a name that is a number": (of({ENTRY: ""}, name=1), "body.name: "),
    "files as a list": (of([ENTRY]), "body.files: "),
    "no files": (of({}), "body.files: pipeline_wrapper.py is missing"),
    "no entry": (of({"other.py": ""}), "body.files: pipeline_wrapper.py is missing"),
    "the entry in a folder": (of({f"a/{ENTRY}": ""}), "body.files: pipeline_wrapper.py is missing"),
    "null for a file": (of({ENTRY: None}), f"body.files.{ENTRY}: must be a string, or "),
    "a list for a file": (of({ENTRY: [""]}), f"body.files.{ENTRY}: must be a string, or "),
    "base64 in lines": (of({ENTRY: {"content_base64": "YWJj\nYWJj"}}), f"body.files.{ENTRY}: is not base64"),
    "base64 for URLs": (of({ENTRY: {"content_base64": "_-__"}}), f"body.files.{ENTRY}: is not base64"),
    "an empty name for the entry": (of({"": ""}), "body.files.'': must be a place inside"),
    "overwrite as 1": (of({ENTRY: ""}, overwrite=1), "body.overwrite: must be true or false"),
    "overwrite as a list": (of({ENTRY: ""}, overwrite=[]), "body.overwrite: must be true or false"),
    "a name that is no Unicode": (of({ENTRY: ""}, name="\udcff"), "body.name: is no Unicode text"),
    "a name that is null": (of({ENTRY: ""}, name=None), "body.name: Field required"),
    "a number for a file": (of({ENTRY: 1}), f"body.files.{ENTRY}: "),
    "an object for a file": (of({ENTRY: {"content": ""}}), f"body.files.{ENTRY}: "),
    "base64 of a number": (of({ENTRY: {"content_base64": 1}}), f"body.files.{ENTRY}: "),
    "no base64": (of({ENTRY: {"content_base64": "a*b="}}), f"body.files.{ENTRY}: is not base64"),
    "half of base64": (of({ENTRY: {"content_base64": "abc"}}), f"body.files.{ENTRY}: is not base64"),
    "base64 that is not ASCII": (of({ENTRY: {"content_base64": "ü"}}), f"body.files.{ENTRY}: is not base64"),
    "overwrite as text": (of({ENTRY: ""}, overwrite="yes"), "body.overwrite: "),
    "save_files as a number": (of({ENTRY: ""}, save_files=1), "body.save_files: "),
    "a description as a list": (of({ENTRY: ""}, description=[]), "body.description: "),
    "a description that is no Unicode": (of({ENTRY: ""}, description="\ud800"), "body.description: "),
    "a file and a folder": (of({ENTRY: "", "a": "", "a/b": ""}), "body.files.a: "),
    "a file and a deep folder": (of({ENTRY: "", "a": "", "a/b/c": ""}), "body.files.a: "),
    "a file in the entry": (of({ENTRY: "", f"{ENTRY}/x": ""}), f"body.files.{ENTRY}: "),
    "a path longer than a file system takes": (of({ENTRY: "", "a/" * 3000 + "b": ""}), "body.files."),
}
PLACES = [
    *(
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "//x",
        "../x",
        "a/../../x",
        "a/..",
        "a//b",
        "a/",
        "./a",
        "a/./b",
        f"../{ENTRY}",
    ),
    *(
        "..\\x",
        "a\\b",
        "\\",
        "C:\\x",
        "a\0b",
        "\0",
        "a\nb",
        "a\tb",
        "a\x7f",
        "\u202egpj.py",
        "\u200b",
        "\ud800",
        "\udcff",
    ),
    *("x" * 256, "ü" * 128, "😀" * 64, "a/" + "x" * 256, "x" * 256 + "/a", "/".join(["x" * 100] * 11)),
    "/".join(["😀" * 50] * 20),  # 1019 characters, and 4 KB
]
LONGEST = ["x" * 240, "ü" * 120, "😀" * 60, "/".join(["x" * 100] * 10), "/".join(["😀" * 50] * 5)]


@pytest.mark.parametrize("case", FAULTS)
def test_parse_files_refuses(case: str) -> None:
    data, said = FAULTS[case]
    with pytest.raises(InvalidArguments) as raised:
        parse_files(data)
    assert (raised.value.status, raised.value.message.startswith(said)) == (422, True), raised.value.message
    raised.value.message.encode()


@pytest.mark.parametrize("place", PLACES)
def test_parse_files_refuses_a_place_outside(place: str) -> None:
    with pytest.raises(InvalidArguments) as raised:
        parse_files(of({ENTRY: "", place: ""}))
    assert "must be a place inside of the wrapper's folder" in raised.value.message
    raised.value.message.encode()


@pytest.mark.parametrize(
    "place", [*LONGEST, "...", "..a", "a..", ".git/config", " ", "a b/ü", "-", "C:", "%2e%2e", "~"]
)
def test_parse_files_takes_a_place_inside(place: str) -> None:
    assert parse_files(of({ENTRY: "", place: "x"})).files == {ENTRY: b"", place: b"x"}


CONTENTS: dict[str, tuple[Any, bytes]] = {
    "empty": ("", b""),
    "line ends": ("a\r\nb\rc\n", b"a\r\nb\rc\n"),
    "a byte order mark": ("\ufeffa", b"\xef\xbb\xbfa"),
    "NUL": ("a\0b", b"a\0b"),
    "text that looks like base64": ("YWJj", b"YWJj"),
    "empty base64": ({"content_base64": ""}, b""),
    "all bytes": ({"content_base64": b64encode(bytes(range(256))).decode()}, bytes(range(256))),
    "base64 with a word more": ({"content_base64": "YWJj", "mode": "0644"}, b"abc"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_parse_files_keeps_the_bytes(case: str) -> None:
    content, expected = CONTENTS[case]
    assert parse_files(of({ENTRY: "", "a": content})).files["a"] == expected


def test_parse_files_takes_many_files() -> None:
    """Each is compared with its own folders, not with all the others: that took minutes."""
    files = {ENTRY: "", **{f"data/{number}": "" for number in range(20_000)}}
    assert len(parse_files(of(files)).files) == 20_001


YAML_CASES: dict[str, tuple[Any, DeployRequest]] = {
    "the least": (
        {"name": "w", "source_code": "a: ü"},
        DeployRequest("w", {"w.yml": "a: ü".encode()}, overwrite=False, is_saved=True, description=""),
    ),
    "all of it": (
        {"name": "w", "source_code": "", "overwrite": True, "save_file": False, "description": "d"},
        DeployRequest("w", {"w.yml": b""}, overwrite=True, is_saved=False, description="d"),
    ),
}
YAML_FAULTS: dict[str, tuple[Any, str]] = {
    "text": ("a: b", "body: "),
    "no name": ({"source_code": ""}, "body.name: "),
    "no source": ({"name": "w"}, "body.source_code: "),
    "a mapping": ({"name": "w", "source_code": {}}, "body.source_code: "),
    "overwrite as text": ({"name": "w", "source_code": "", "overwrite": "true"}, "body.overwrite: "),
    "a source that is no Unicode": ({"name": "w", "source_code": "\ud800"}, "body.source_code: is no Unicode text"),
    "save_file as text": ({"name": "w", "source_code": "", "save_file": "no"}, "body.save_file: "),
}


@pytest.mark.parametrize("case", YAML_CASES)
def test_parse_yaml(case: str) -> None:
    data, expected = YAML_CASES[case]
    assert parse_yaml(data) == expected


@pytest.mark.parametrize("case", YAML_FAULTS)
def test_parse_yaml_refuses(case: str) -> None:
    data, said = YAML_FAULTS[case]
    with pytest.raises(InvalidArguments) as raised:
        parse_yaml(data)
    assert raised.value.message.startswith(said)


def test_fault_is_told_as_a_detail_too() -> None:
    with pytest.raises(InvalidArguments) as raised:
        parse_files(of({ENTRY: ""}, overwrite="yes"))
    assert (raised.value.message, raised.value.details) == (
        "body.overwrite: must be true or false",
        [{"loc": "body.overwrite", "message": "must be true or false", "type": "type"}],
    )


def test_deployed() -> None:
    assert deployed("w", 3) == {"name": "w", "success": True, "endpoint": "/w/run", "generation": 3}
