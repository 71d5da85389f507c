import os
from pathlib import Path
from threading import Thread

import pytest

from gateway.cli.error import CommandError
from gateway.cli.output import open_output


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with open_output(target) as write:
        write(b"a")
        assert not target.exists()
        write(b"b")
    assert target.read_bytes() == b"ab"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, CommandError("no"), SystemExit])
def test_error_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")

    def fail() -> None:
        with open_output(target) as write:
            write(b"new")
            raise error

    with pytest.raises((KeyboardInterrupt, CommandError, SystemExit)):
        fail()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_mode_and_link_are_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "out", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o604)
    link.symlink_to("out")
    with open_output(link) as write:
        write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o604


def test_named_pipe_is_written_to_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with open_output(pipe) as write:
        write(b"a")
    reader.join()
    assert read == [b"a"]
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("name", "why"),
    [("gone/out", "No such file or directory"), (".", "Is a directory"), ("file/out", "Not a directory")],
)
def test_path_that_cannot_be_written(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError) as caught, open_output(tmp_path / name):
        pass
    assert caught.value.message == f"cannot write {tmp_path / name}: {why}"


@pytest.mark.parametrize("path", [None, Path("-")])
def test_stdout(path: Path | None, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with open_output(path) as write:
        write(b"\xff")
        assert capsysbinary.readouterr().out == b"\xff"
