import importlib.util
from pathlib import Path

import pytest

from gateway.cli.main import main


def test_new_wrapper_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "my_pipeline"]) == 0
    assert capsys.readouterr() == (
        "wrote wrappers/my_pipeline/pipeline_wrapper.py; to try it:\n"
        "  gateway run\n"
        "  gateway pipeline run my_pipeline --param name=Ada\n",
        "",
    )
    file = tmp_path / "wrappers" / "my_pipeline" / "pipeline_wrapper.py"
    assert [path.name for path in file.parent.iterdir()] == ["pipeline_wrapper.py"]
    spec = importlib.util.spec_from_file_location("fresh", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wrapper = module.PipelineWrapper()
    wrapper.setup()
    assert (wrapper.run_api(), wrapper.run_api(name="Ada")) == ("Hello, World!", "Hello, Ada!")


def test_new_wrapper_in_another_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "a", "--dir", "x/y"]) == 0
    assert "  gateway run --wrappers-dir x/y\n" in capsys.readouterr().out
    assert (tmp_path / "x/y/a/pipeline_wrapper.py").is_file()


def test_existing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wrappers" / "a").mkdir(parents=True)
    assert main(["new", "a"]) == 1
    assert capsys.readouterr() == ("", "gateway: wrappers/a exists already\n")
    assert list((tmp_path / "wrappers" / "a").iterdir()) == []


@pytest.mark.parametrize("name", ["status", "v1", "_a", "a.b", "a/b", "..", "", "a\n", "ä", "a" * 65])
def test_name_that_cannot_be_served(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", name]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"gateway: the name {name!r} ")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["new", "a", "--dir", "file/x"]) == 1
    assert capsys.readouterr() == ("", "gateway: cannot write file/x: Not a directory\n")
