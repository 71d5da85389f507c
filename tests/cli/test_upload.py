import os
import tracemalloc
from email.message import Message
from pathlib import Path

import pytest

from gateway.cli import upload as module
from gateway.cli.error import CommandError
from gateway.cli.upload import MultipartBody, choose_field, find_uploads
from tests.cli.double import Request


def send(body: MultipartBody) -> Request:
    headers = Message()
    headers["Content-Type"] = body.media_type
    return Request("POST", "/", headers, b"".join(body))


def test_body_read_back(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF\r\n\x00\xff")
    (tmp_path / "empty").write_bytes(b"")
    files = find_uploads([tmp_path / "a.pdf", tmp_path / "empty"], [])
    body = MultipartBody([("query", "schön\r\n"), ("n", "1"), ("n", "")], [("files", file) for file in files])
    request = send(body)
    assert len(request.body) == len(body)
    assert request.parts() == [
        ("query", None, "schön\r\n".encode()),
        ("n", None, b"1"),
        ("n", None, b""),
        ("files", "a.pdf", b"%PDF\r\n\x00\xff"),
        ("files", "empty", b""),
    ]
    assert b"Content-Type: application/pdf\r\n" in request.body
    assert b"Content-Type: application/octet-stream\r\n" in request.body


def test_body_can_be_read_for_each_try(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    body = MultipartBody([], [("files", file) for file in find_uploads([tmp_path / "a"], [])])
    assert b"".join(body) == b"".join(body)


def test_names_are_escaped(tmp_path: Path) -> None:
    (tmp_path / 'a"b\r\nX: y ä\\.txt').write_bytes(b"1")
    files = find_uploads([], [tmp_path])
    assert files[0].name == 'a"b\r\nX: y ä\\.txt'
    request = send(MultipartBody([('k"', "v")], [("files", files[0])]))
    head = 'Content-Disposition: form-data; name="files"; filename="a%22b%0D%0AX: y ä\\.txt"\r\n'
    assert head.encode() in request.body
    assert b'form-data; name="k%22"\r\n' in request.body


def test_name_that_is_no_unicode(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff", "wb") as file:  # noqa: PTH123 - Path knows no bytes
        file.write(b"1")
    request = send(MultipartBody([], [("files", file) for file in find_uploads([], [tmp_path])]))
    assert request.parts() == [("files", "?", b"1")]


def test_folder_recursive_sorted_without_hidden(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", ".hidden", ".git/config", "a/.cache/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.txt").symlink_to("b.txt")
    (tmp_path / "dangling").symlink_to("nowhere")
    found = [(file.name, file.size_bytes) for file in find_uploads([], [tmp_path])]
    assert found == [("a/b/c.txt", 9), ("a/z.txt", 7), ("b.txt", 5), ("link.txt", 5)]


def test_folder_given_itself_may_be_hidden(tmp_path: Path) -> None:
    (tmp_path / ".notes").mkdir()
    (tmp_path / ".notes" / "a").write_text("1")
    assert [file.name for file in find_uploads([], [tmp_path / ".notes"])] == ["a"]


@pytest.mark.parametrize(
    ("files", "folders", "sentence"),
    [
        (["gone.txt"], [], "no such file: gone.txt"),
        (["folder"], [], "folder is a folder: send it with --dir"),
        (["pipe"], [], "pipe is no regular file"),
        ([], ["gone"], "no such folder: gone"),
        ([], ["file"], "file is not a folder"),
        ([], ["folder"], "folder holds no files to send"),
    ],
)
def test_what_cannot_be_sent(tmp_path: Path, files: list[str], folders: list[str], sentence: str) -> None:
    (tmp_path / "folder" / ".git").mkdir(parents=True)
    (tmp_path / "folder" / ".git" / "config").write_text("")
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CommandError) as caught:
        find_uploads([Path(name) for name in files], [Path(name) for name in folders])
    assert caught.value.message == sentence


def test_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    body = MultipartBody([], [("files", find_uploads([path], [])[0])])
    path.write_bytes(b"123")
    with pytest.raises(CommandError) as caught:
        list(body)
    assert caught.value.message == f"{path} became shorter while it was sent"


def test_file_that_grows_is_sent_as_long_as_announced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"123")
    body = MultipartBody([], [("files", find_uploads([path], [])[0])])
    path.write_bytes(b"12345")
    assert send(body).parts() == [("files", "a", b"123")]


def test_file_that_vanishes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"123")
    body = MultipartBody([], [("files", find_uploads([path], [])[0])])
    path.unlink()
    with pytest.raises(CommandError) as caught:
        list(body)
    assert caught.value.message == f"cannot read {path}: No such file or directory"


def test_large_file_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024)  # sparse
    body = MultipartBody([], [("files", find_uploads([path], [])[0])])
    tracemalloc.start()
    try:
        length = sum(len(piece) for piece in body)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert length == len(body)
    assert peak_bytes < 4 * module.PIECE_BYTES


@pytest.mark.parametrize(
    ("parameters", "field"), [(["a", "files"], "files"), (["document"], "document"), (["files"], "files")]
)
def test_field_for_files(parameters: list[str], field: str) -> None:
    assert choose_field("w", parameters) == field


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ([], "w takes no files"),
        (["a", "b"], "w has several file parameters and none is called files: a, b"),
    ],
)
def test_field_for_files_unclear(parameters: list[str], sentence: str) -> None:
    with pytest.raises(CommandError) as caught:
        choose_field("w", parameters)
    assert caught.value.message == sentence
