from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.errors import ConfigError
from gateway.settings import Settings, load_settings


def load(folder: Path, environ: dict[str, str] | None = None, **typed: Any) -> Settings:
    return load_settings(typed, environ or {}, folder)


def test_settings_are_the_defaults_without_anything(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_settings_take_the_first_origin_that_has_a_value(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('port = 1\nhost = "a"\nmax_queue = 1\nlog_level = "debug"\n')
    theirs = {"HAYHOOKS_PORT": "2", "HAYHOOKS_HOST": "b", "HAYHOOKS_ROOT_PATH": "/theirs"}
    ours = {"GATEWAY_PORT": "3", "GATEWAY_MAX_QUEUE": "", "GATEWAY_STRICT": "yes"}
    assert load(tmp_path, theirs | ours, port=4) == Settings(
        port=4, host="b", max_queue=1, log_level="debug", root_path="/theirs", strict=True
    )
    assert load(tmp_path, theirs | ours).port == 3
    assert load(tmp_path, theirs).port == 2
    assert load(tmp_path).port == 1


@pytest.mark.parametrize(
    ("folders", "environ", "expected"),
    [
        ([], {}, "wrappers"),
        (["wrappers"], {}, "wrappers"),
        (["pipelines"], {}, "pipelines"),
        (["wrappers", "pipelines"], {}, "wrappers"),
        (["pipelines"], {"GATEWAY_WRAPPERS_DIR": "mine"}, "mine"),
        (["pipelines"], {"GATEWAY_PIPELINES_DIR": "mine"}, "mine"),
        (["pipelines"], {"HAYHOOKS_PIPELINES_DIR": "theirs"}, "theirs"),
        ([], {"HAYHOOKS_PIPELINES_DIR": "theirs", "GATEWAY_WRAPPERS_DIR": "mine"}, "mine"),
    ],
)
def test_wrappers_dir_is_found(tmp_path: Path, folders: list[str], environ: dict[str, str], expected: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir()
    assert load(tmp_path, environ).wrappers_dir == Path(expected)


def test_state_path_is_where_the_state_dir_is_or_below_the_wrappers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = [load(tmp_path, **typed).state_path for typed in ({}, {"wrappers_dir": "w"}, {"state_dir": "s"})]
    assert found == [tmp_path / "wrappers" / ".gateway", tmp_path / "w" / ".gateway", tmp_path / "s"]


def test_settings_pass_over_what_is_for_others(tmp_path: Path) -> None:
    environ = {
        "HAYHOOKS_SHOW_TRACEBACKS": "true",
        "HAYHOOKS_MCP_PORT": "1",
        "GATEWAY_URL": "http://x",
        "GATEWAY_API_KEY": "k",
        "gateway_port": "1",
        "PORT": "1",
    }
    assert load(tmp_path, environ) == Settings(show_tracebacks=True)


@pytest.mark.parametrize(
    ("environ", "toml", "typed", "said"),
    [
        ({"GATEWAY_PROT": "1"}, "", {}, "unknown setting in the environment: GATEWAY_PROT; did you mean port?"),
        ({"GATEWAY_ZZZ": "1"}, "", {}, "unknown setting in the environment: GATEWAY_ZZZ"),
        ({}, "prot = 1", {}, "unknown setting in gateway.toml: prot; did you mean port?"),
        ({}, "[server]\nport = 1", {}, "unknown setting in gateway.toml: server"),
        ({"GATEWAY_PORT": "99999"}, "", {}, "setting port = '99999': Input should be less than or equal to 65535"),
        ({"GATEWAY_MAX_CONCURRENCY": "0"}, "", {}, "setting max_concurrency = '0': Input should be greater than 0"),
        ({"GATEWAY_WORKERS": "0"}, "", {}, "setting workers = '0': Input should be greater than or equal to 1"),
        ({}, "workers = 257", {}, "setting workers = 257: Input should be less than or equal to 256"),
        ({"GATEWAY_DEPLOY_TIMEOUT_S": "0"}, "", {}, "setting deploy_timeout_s = '0': Input should be greater than 0"),
        ({"HAYHOOKS_PORT": "x"}, "", {}, "setting port = 'x': Input should be a valid integer"),
        ({}, "", {"log_level": "loud"}, "setting log_level = 'loud': Input should be 'debug', 'info'"),
        ({}, "port = ", {}, "gateway.toml: Invalid value"),
    ],
)
def test_settings_refuse_in_one_sentence(
    tmp_path: Path, environ: dict[str, str], toml: str, typed: dict[str, Any], said: str
) -> None:
    (tmp_path / "gateway.toml").write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ, **typed)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("kind", ["not UTF-8", "a folder"])
def test_settings_refuse_a_file_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    if kind == "a folder":
        (tmp_path / "gateway.toml").mkdir()
    else:
        (tmp_path / "gateway.toml").write_bytes(b"host = '\xff'")
    with pytest.raises(ConfigError):
        load(tmp_path)


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
